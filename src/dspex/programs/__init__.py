"""Programs: signatures, predictors and the modules made of them; stateless but for what they ask of their scope."""

from dspex.programs._paths import PredictorPaths
from dspex.programs._render_class import render_class
from dspex.programs.adapters.chat import ChatAdapter
from dspex.programs.chain_of_thought import ChainOfThought
from dspex.programs.details import Details, details
from dspex.programs.example import Example
from dspex.programs.fields import InputField, OutputField
from dspex.programs.inputs import InputSpec, bind_inputs, inputs_of, pick_inputs
from dspex.programs.module import Module, Program
from dspex.programs.predict import Predict
from dspex.programs.prediction import Prediction
from dspex.programs.retrieve import Retrieve
from dspex.programs.signature import Signature

__all__ = [
    "ChainOfThought",
    "ChatAdapter",
    "Details",
    "Example",
    "InputField",
    "InputSpec",
    "Module",
    "OutputField",
    "Predict",
    "Prediction",
    "PredictorPaths",
    "Program",
    "Retrieve",
    "Signature",
    "bind_inputs",
    "details",
    "inputs_of",
    "pick_inputs",
    "render_class",
]
