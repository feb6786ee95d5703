"""Programs: signatures, predictors and the modules made of them; stateless but for what they ask of their scope."""

from dspex.programs._paths import PredictorPaths
from dspex.programs._render_class import render_class
from dspex.programs.adapters._adapter import Adapter, AdapterName, Parsed, Piece, Repair, StreamParser
from dspex.programs.adapters._choose import DEFAULT_ADAPTER, AdapterChoice, choose_adapter
from dspex.programs.adapters._plain_json import to_plain
from dspex.programs.adapters.auto import AutoAdapter
from dspex.programs.adapters.chat import ChatAdapter
from dspex.programs.adapters.json_object import JSONAdapter
from dspex.programs.adapters.tool import ToolAdapter
from dspex.programs.adapters.xml import XMLAdapter
from dspex.programs.best_of_n import BestOfN
from dspex.programs.chain_of_thought import ChainOfThought
from dspex.programs.details import Details, details
from dspex.programs.example import Example
from dspex.programs.fields import InputField, OutputField
from dspex.programs.inputs import InputSpec, bind_inputs, inputs_of, pick_inputs
from dspex.programs.knn import KNN, Embed
from dspex.programs.module import Module, Program
from dspex.programs.multi_chain_comparison import MultiChainComparison
from dspex.programs.multi_hop import Findings, MultiHop
from dspex.programs.nearest_demos import NearestDemos
from dspex.programs.parallel import Parallel
from dspex.programs.predict import Predict
from dspex.programs.prediction import Prediction
from dspex.programs.program_of_thought import ProgramOfThought
from dspex.programs.react import ReAct
from dspex.programs.refine import Refine
from dspex.programs.retrieve import Retrieve
from dspex.programs.retry import Retry
from dspex.programs.run import Run
from dspex.programs.sandbox import CodeRun, Interpreter, MontyInterpreter
from dspex.programs.signature import Signature
from dspex.programs.tools.calling import call_tools
from dspex.programs.tools.tool import Tool, tool
from dspex.programs.tools.trajectory import Observation, ToolStep, Trajectory
from dspex.programs.types.audio import Audio
from dspex.programs.types.citations import Citations
from dspex.programs.types.code import Code
from dspex.programs.types.field_type import FieldType
from dspex.programs.types.file import File
from dspex.programs.types.history import History
from dspex.programs.types.image import Image
from dspex.programs.types.quote import Document, Quote
from dspex.programs.types.reasoning import Reasoning
from dspex.programs.types.tool_calls import ToolCalls
from dspex.programs.voting import Ensemble, majority

__all__ = [
    "DEFAULT_ADAPTER",
    "KNN",
    "Adapter",
    "AdapterChoice",
    "AdapterName",
    "Audio",
    "AutoAdapter",
    "BestOfN",
    "ChainOfThought",
    "ChatAdapter",
    "Citations",
    "Code",
    "CodeRun",
    "Details",
    "Document",
    "Embed",
    "Ensemble",
    "Example",
    "FieldType",
    "File",
    "Findings",
    "History",
    "Image",
    "InputField",
    "InputSpec",
    "Interpreter",
    "JSONAdapter",
    "Module",
    "MontyInterpreter",
    "MultiChainComparison",
    "MultiHop",
    "NearestDemos",
    "Observation",
    "OutputField",
    "Parallel",
    "Parsed",
    "Piece",
    "Predict",
    "Prediction",
    "PredictorPaths",
    "Program",
    "ProgramOfThought",
    "Quote",
    "ReAct",
    "Reasoning",
    "Refine",
    "Repair",
    "Retrieve",
    "Retry",
    "Run",
    "Signature",
    "StreamParser",
    "Tool",
    "ToolAdapter",
    "ToolCalls",
    "ToolStep",
    "Trajectory",
    "XMLAdapter",
    "bind_inputs",
    "call_tools",
    "choose_adapter",
    "details",
    "inputs_of",
    "majority",
    "pick_inputs",
    "render_class",
    "to_plain",
    "tool",
]
