%% The rows beside gen_server. It speaks the same lines as benchmarks/_worker.py: "calibrate SECONDS", "operations N"
%% and "turn" come in, a line of JSON goes out. CPU time is that of the whole emulator, one scheduler.
-module(bench).
-behaviour(gen_server).
-export([main/1, start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2]).

-define(SENDERS, 1000).
-define(BURST, 10).
-define(BURST_OF_ONE, 1000).
-define(CRASHES_OF_ONE, 100).
-define(RING, 10000).
-define(STAGES, 10).
-define(WINDOW, 100).
-define(ANSWERING, 1000).
-define(CRASHING, 100).
-define(CALLS, 5).

main([Name]) ->
    logger:set_primary_config(level, none),
    process_flag(trap_exit, true),
    Run = setup(list_to_atom(Name)),
    loop(Run, 1),
    halt(0).

loop(Run, Operations) ->
    case io:get_line("") of
        eof -> ok;
        Line ->
            case string:lexemes(Line, " \n") of
                ["calibrate", Seconds] ->
                    Found = calibrate(Run, number(Seconds), 1),
                    io:format("{\"operations\": ~w}~n", [Found]),
                    loop(Run, Found);
                ["operations", Number] ->
                    io:format("{\"operations\": ~s}~n", [Number]),
                    loop(Run, list_to_integer(Number));
                ["turn"] ->
                    {Cpu, Wall, Outcome} = turn(Run, Operations),
                    io:format("{\"cpu\": ~w, \"wall\": ~w~s}~n", [Cpu / Operations, Wall / Operations, told(Outcome)]),
                    loop(Run, Operations)
            end
    end.

number(Text) ->
    case string:to_float(Text) of
        {error, no_float} -> list_to_integer(Text);
        {Float, _} -> Float
    end.

told({figure, Value, Figures}) ->
    Shown = [io_lib:format("\"~s\": ~w", [Name, Each]) || {Name, Each} <- Figures],
    io_lib:format(", \"value\": ~w, \"figures\": {~s}", [Value, lists:join(", ", Shown)]);
told(_) -> "".

turn(Run, Operations) ->
    erlang:garbage_collect(),
    {Cpu, _} = erlang:statistics(runtime),
    Wall = erlang:monotonic_time(nanosecond),
    Outcome = Run(Operations),
    {CpuAfter, _} = erlang:statistics(runtime),
    {(CpuAfter - Cpu) / 1.0e3, (erlang:monotonic_time(nanosecond) - Wall) / 1.0e9, Outcome}.

calibrate(Run, Seconds, Operations) ->
    case turn(Run, Operations) of
        {_, Spent, _} when Spent >= Seconds -> Operations;
        {_, Spent, _} ->
            Growth = min(10.0, Seconds / max(Spent, 1.0e-9) * 1.1),
            calibrate(Run, Seconds, max(Operations + 1, round(Operations * Growth)))
    end.

%% --- contenders: each returns a fun of the number of operations ---

setup(call) ->
    {ok, Pid} = start_link(echo),
    fun(Operations) -> repeat(Operations, fun() -> ping = gen_server:call(Pid, ping, 5000) end) end;
setup(cast) ->
    {ok, Pid} = start_link(echo),
    fun(Operations) -> casts(Pid, Operations) end;
setup(start_stop) ->
    Sup = supervisor_of(echo, infinite),
    fun(Operations) ->
        repeat(Operations, fun() ->
            {ok, Pid} = supervisor:start_child(Sup, []),
            ok = supervisor:terminate_child(Sup, Pid)
        end)
    end;
setup(crash_to_answer) ->
    fun(Operations) -> crashes(Operations) end;
setup(fan_in_calls) ->
    {ok, Pid} = start_link(echo),
    fun(Operations) ->
        fan(Operations, fun(Number) -> repeat(Number, fun() -> gen_server:call(Pid, ping, 60000) end) end)
    end;
setup(fan_in_casts) ->
    {ok, Pid} = start_link(echo),
    fun(Operations) ->
        fan(Operations, fun(Number) -> bursts(Pid, Number) end),
        ping = gen_server:call(Pid, ping, 60000)
    end;
setup(ring) ->
    Pids = [element(2, start_link(hop)) || _ <- lists:seq(1, ?RING)],
    [gen_server:call(Pid, {neighbour, Next, self()})
     || {Pid, Next} <- lists:zip(Pids, tl(Pids) ++ [hd(Pids)])],
    fun(Operations) ->
        gen_server:cast(hd(Pids), Operations),
        receive arrived -> ok end
    end;
setup(pipeline) ->
    Self = self(),
    {ok, Last} = start_link({stage, Self}),
    First = lists:foldl(fun(_, Next) -> element(2, start_link({stage, Next})) end, Last, lists:seq(2, ?STAGES)),
    fun(Operations) -> pipe(First, Operations, 0, 0) end;
setup(children) ->
    Sup = supervisor_of(echo, infinite),
    fun(Operations) ->
        Pids = [element(2, supervisor:start_child(Sup, [])) || _ <- lists:seq(1, Operations)],
        [ok = supervisor:terminate_child(Sup, Pid) || Pid <- Pids]
    end;
setup(memory) ->
    fun(Operations) ->
        Sup = supervisor_of(echo, infinite),
        erlang:garbage_collect(Sup),
        Before = erlang:memory(total),
        [{ok, _} = supervisor:start_child(Sup, []) || _ <- lists:seq(1, Operations)],
        erlang:garbage_collect(Sup),
        erlang:garbage_collect(),
        Weight = (erlang:memory(total) - Before) / Operations,
        exit(Sup, shutdown),
        receive {'EXIT', Sup, _} -> ok end,
        {figure, Weight, [{"bytes", Weight}, {"number", Operations}]}
    end;
setup(storm) ->
    Pids = list_to_tuple([element(2, start_link(echo)) || _ <- lists:seq(1, ?ANSWERING)]),
    fun(Operations) -> storm(Pids, Operations) end.

repeat(0, _) -> ok;
repeat(Number, Fun) -> Fun(), repeat(Number - 1, Fun).

casts(_, Left) when Left =< 0 -> ok;
casts(Pid, Left) ->
    repeat(min(Left, ?BURST_OF_ONE), fun() -> gen_server:cast(Pid, message) end),
    ping = gen_server:call(Pid, ping, 60000),
    casts(Pid, Left - ?BURST_OF_ONE).

bursts(_, Left) when Left =< 0 -> ok;
bursts(Pid, Left) ->
    repeat(min(Left, ?BURST), fun() -> gen_server:cast(Pid, message) end),
    erlang:yield(),
    bursts(Pid, Left - ?BURST).

fan(Operations, Work) ->
    Each = Operations div ?SENDERS,
    Rest = Operations rem ?SENDERS,
    Shares = [Each + (if Number =< Rest -> 1; true -> 0 end) || Number <- lists:seq(1, ?SENDERS)],
    Senders = [spawn_monitor(fun() -> Work(Share) end) || Share <- Shares],
    [receive {'DOWN', Monitor, process, _, _} -> ok end || {_, Monitor} <- Senders],
    ok.

pipe(_, Operations, Operations, Operations) -> ok;
pipe(First, Operations, Sent, Got) when Sent < Operations, Sent - Got < ?WINDOW ->
    gen_server:cast(First, {item, Sent}),
    pipe(First, Operations, Sent + 1, Got);
pipe(First, Operations, Sent, Got) ->
    receive {'$gen_cast', {item, _}} -> pipe(First, Operations, Sent, Got + 1) end.

%% OTP's supervisor walks through the restarts of its last second at each restart, so each gets a few only.
crashes(Left) when Left =< 0 -> ok;
crashes(Left) ->
    {ok, Sup} = sup:start_link({one_for_one, [{echo, {bench, start_link, [{named, echo}]}}]}),
    repeat(min(Left, ?CRASHES_OF_ONE), fun() ->
        Old = whereis(echo),
        catch gen_server:call(Old, crash, 5000),
        successor(echo, Old),
        ping = gen_server:call(echo, ping, 5000)
    end),
    exit(Sup, shutdown),
    receive {'EXIT', Sup, _} -> ok end,
    crashes(Left - ?CRASHES_OF_ONE).

successor(Name, Old) ->
    case whereis(Name) of
        Pid when is_pid(Pid), Pid =/= Old -> Pid;
        _ -> erlang:yield(), successor(Name, Old)
    end.

supervisor_of(Kind, infinite) ->
    {ok, Sup} = sup:start_link({simple_one_for_one, [{child, {bench, start_link, [Kind]}}]}),
    Sup.

storm(Pids, Crashes) ->
    Left = counters:new(1, []),
    counters:put(Left, 1, Crashes),
    Self = self(),
    Specs = [{Number, {bench, start_link, [{crashing, Left, Self}]}} || Number <- lists:seq(1, ?CRASHING)],
    Began = erlang:monotonic_time(nanosecond),
    Probe = spawn_link(fun() -> probe(Pids, Self, Began, 0, []) end),
    {ok, Sup} = sup:start_link({one_for_one, Specs}),
    receive over -> ok end,
    Seconds = (erlang:monotonic_time(nanosecond) - Began) / 1.0e9,
    Probe ! stop,
    Took = lists:sort(receive {took, All} -> All end),
    exit(Sup, shutdown),
    receive {'EXIT', Sup, _} -> ok end,
    forget(),
    P99 = lists:nth(max(1, trunc(length(Took) * 0.99)), Took) / 1.0e9,
    P50 = lists:nth(max(1, length(Took) div 2), Took) / 1.0e9,
    {figure, P99, [{"p50_us", P50 * 1.0e6}, {"p99_us", P99 * 1.0e6}, {"calls", length(Took)},
                   {"restarts_per_second", Crashes / Seconds}]}.

%% Every one of the crashing says when it is well: only the first word counts.
forget() -> receive over -> forget(); {'EXIT', _, _} -> forget() after 0 -> ok end.

probe(Pids, Parent, Due, Next, Took) ->
    receive
        stop -> Parent ! {took, Took ++ answers(Next - length(Took))}
    after max(0, (Due + 1000000 - erlang:monotonic_time(nanosecond)) div 1000000) ->
        Self = self(),
        [spawn_link(fun() ->
            Began = erlang:monotonic_time(nanosecond),
            gen_server:call(element((Next + Number) rem ?ANSWERING + 1, Pids), ping, 60000),
            Self ! {answer, erlang:monotonic_time(nanosecond) - Began}
         end) || Number <- lists:seq(1, ?CALLS)],
        probe(Pids, Parent, Due + 1000000, Next + ?CALLS, drain(Took))
    end.

drain(Took) -> receive {answer, Each} -> drain([Each | Took]) after 0 -> Took end.

answers(0) -> [];
answers(Left) -> receive {answer, Each} -> [Each | answers(Left - 1)] end.

%% --- the servers ---

start_link({named, Name}) -> gen_server:start_link({local, Name}, ?MODULE, echo, []);
start_link(Kind) -> gen_server:start_link(?MODULE, Kind, []).

init({crashing, Left, Parent}) -> {ok, {crashing, Left, Parent}, {continue, crash}};
init(Kind) -> {ok, Kind}.

handle_continue(crash, {crashing, Left, Parent} = State) ->
    case counters:get(Left, 1) of
        Number when Number > 0 -> counters:sub(Left, 1, 1), error(crash);
        _ -> Parent ! over, {noreply, State}
    end.

handle_call(crash, _, _) -> error(crash);
handle_call({neighbour, Next, Owner}, _, hop) -> {reply, ok, {hop, Next, Owner}};
handle_call(Message, _, State) -> {reply, Message, State}.

handle_cast(0, {hop, _, Owner} = State) -> Owner ! arrived, {noreply, State};
handle_cast(Left, {hop, Next, _} = State) -> gen_server:cast(Next, Left - 1), {noreply, State};
handle_cast(Item, {stage, Next} = State) -> gen_server:cast(Next, Item), {noreply, State};
handle_cast(_, State) -> {noreply, State}.

handle_info(_, State) -> {noreply, State}.
