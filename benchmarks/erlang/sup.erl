%% A supervisor of whatever it is told; it never gives up.
-module(sup).
-behaviour(supervisor).
-export([start_link/1, init/1]).

start_link(What) -> supervisor:start_link(?MODULE, What).

init({Strategy, Children}) ->
    Specs = [#{id => Id, start => Start, shutdown => 5000} || {Id, Start} <- Children],
    {ok, {#{strategy => Strategy, intensity => 100000000, period => 1}, Specs}}.
