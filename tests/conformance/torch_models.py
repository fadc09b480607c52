"""PyTorch: TorchScript, exported programs and pickled modules."""

from __future__ import annotations

import warnings

import mlflow
import numpy as np
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema
from mlflow.types import TensorSpec as MlflowTensor
from torch import nn

from tests.conformance.cases import NUMBERS, Case, Ends, Model, Refused, Within

RNG = np.random.default_rng(8)
HALVES, DOUBLES = NUMBERS.astype(np.float16), NUMBERS.astype(np.float64)
SEQUENCES = RNG.normal(size=(96, 6, 4)).astype(np.float32)
IMAGES = RNG.normal(size=(48, 1, 8, 8)).astype(np.float32)
TOKENS = RNG.integers(0, 9, (96, 5)).astype(np.int64)


def named(name, array, dims=None):
    return MlflowTensor(array.dtype, (-1, *(array.shape[1:] if dims is None else dims)), name)


def net(module, *rows, how="pickle", names=None, outputs=None, example=False) -> Model:
    """A module, saved as people do: `how` is "pickle", "pt2", "script" or "trace" (both TorchScript in MLflow)."""
    module = module.eval() if how != "training" else module.train()
    how = "script" if how == "training" else how
    tensors = tuple(torch.from_numpy(a[:8]) for a in rows)

    def ask(arrays):
        with torch.no_grad():
            answer = module(*map(torch.tensor, arrays))
        answer = list(answer.values()) if isinstance(answer, dict) else answer
        answer = [answer] if isinstance(answer, torch.Tensor) else list(answer)
        return [a.numpy() for a in answer]

    if how == "script" and module.training:
        scripted = torch.jit.script(module)
        module = module.eval()
    elif how == "script":
        scripted = torch.jit.script(module)
    elif how == "trace":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.trace(module, tensors, check_trace=False)
    else:
        scripted = module
    answers = ask([a[:8] for a in rows])
    names = names or [f"input_{k}" for k in range(len(rows))] if len(rows) > 1 or names else ["input"]
    outputs = outputs or (["output"] if len(answers) == 1 else [f"output_{k}" for k in range(len(answers))])
    signature = ModelSignature(
        Schema([named(n, a) for n, a in zip(names, rows, strict=True)]),
        Schema([named(n, a) for n, a in zip(outputs, answers, strict=True)]),
    )

    def write(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mlflow.pytorch.save_model(
                scripted, str(path), signature=signature, pip_requirements=["numpy"],
                serialization_format="pt2" if how == "pt2" else "pickle",
                input_example=rows[0][:8] if example or how == "pt2" else None,
            )  # fmt: skip

    return Model(write, ask, list(rows), predict=None)


class Embedded(nn.Module):
    """Tokens of a small vocabulary."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(9, 6), nn.Linear(6, 2)

    def forward(self, tokens):
        return self.head(self.table(tokens).mean(dim=1))


class Recurrent(nn.Module):
    """The last step's state."""

    def __init__(self, kind=nn.LSTM):
        super().__init__()
        self.cells, self.head = kind(4, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, steps):
        states, _ = self.cells(steps)
        return self.head(states[:, -1])


class Baked(Recurrent):
    """Its first state is made for the batch that it sees."""

    def forward(self, steps):
        first = torch.zeros(1, steps.shape[0], 8)
        states, _ = self.cells(steps, (first, first))
        return self.head(states[:, -1])


class Branch(nn.Module):
    """What it does depends on its rows."""

    def forward(self, x):
        if torch.isnan(x).any():
            x = torch.nan_to_num(x, nan=1.0)
        return 2 * x


class Uncompiled(nn.Module):
    """A branch that TorchScript cannot compile."""

    def forward(self, x):
        return x * {True: 2.0, False: 3.0}[bool((x > 0).all())]


class Whole(nn.Module):
    """A branch that raises no tracer warning; and one whose words TorchScript compiles."""

    def forward(self, x):
        return 2 * x if torch.equal(x, torch.round(x)) else 3 * x


class Nearly(nn.Module):
    """The same, for what is nearly so."""

    def forward(self, x):
        return 2 * x if torch.allclose(x, torch.round(x)) else 3 * x


class Doubled(nn.Module):
    """Answers in double precision what it worked out in single precision."""

    def __init__(self):
        super().__init__()
        self.inner, self.head = nn.Linear(4, 64), nn.Linear(64, 2)

    def forward(self, x):
        return self.head(torch.tanh(self.inner(x))).double()


class InPlace(nn.Module):
    """Writes into what it is given."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        x.sub_(1.0).mul_(3.0)
        return self.head(x)


class Always(nn.Module):
    """A branch that no row ever takes, and that cannot be compiled."""

    def forward(self, x):
        return x * {True: 2.0, False: 3.0}[bool((x * x >= -1).all() or torch.isnan(x).any())]


class Masked(nn.Module):
    """Attention that sees the past only: the mask holds infinities on purpose."""

    def __init__(self):
        super().__init__()
        self.key, self.value = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("mask", torch.triu(torch.full((6, 6), float("-inf")), 1))

    def forward(self, steps):
        scores = self.key(steps) @ steps.transpose(1, 2) + self.mask
        return (torch.softmax(scores, dim=-1) @ self.value(steps))[:, -1]


class Several(nn.Module):
    """Two answers, as a tuple."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 3)

    def forward(self, x):
        hidden = torch.tanh(self.body(x))
        return hidden, hidden.sum(dim=1, keepdim=True)


class Paired(Several):
    """Two answers, as a list."""

    def forward(self, x):
        hidden = torch.tanh(self.body(x))
        return [hidden, hidden.sum(dim=1, keepdim=True)]


class Largest(nn.Module):
    """ONNX Runtime passes over what is missing."""

    def forward(self, x):
        return x.amax(dim=1, keepdim=True)


class Overlooks(nn.Module):
    """ONNX Runtime's sum of an infinity times nothing is a number here, and none in PyTorch."""

    def forward(self, x):
        return torch.where(torch.isinf(x), torch.full_like(x, float("nan")), x).amax(dim=1, keepdim=True)


class Mapped(Several):
    """Two answers, as a dict."""

    def forward(self, x):
        hidden = torch.tanh(self.body(x))
        return {"hidden": hidden, "total": hidden.sum(dim=1, keepdim=True)}


class Flat(Several):
    """A number a row, without an axis of its own."""

    def forward(self, x):
        return self.body(x).sum(dim=1)


class Joined(nn.Module):
    """Two inputs."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(8, 2)

    def forward(self, price, book):
        return self.body(torch.cat([price, book], dim=1))


class Scaled(nn.Module):
    """A number of any type."""

    def forward(self, x):
        return x * 2


class Spoilt(nn.Module):
    """A weight that is no number."""

    def __init__(self):
        super().__init__()
        self.body = nn.Linear(4, 1)
        with torch.no_grad():
            self.body.weight[0, 1] = float("nan")

    def forward(self, x):
        return self.body(x)


class Batches(nn.Module):
    """Its answer to a row depends on the others."""

    def forward(self, x):
        return x - x.mean(dim=0, keepdim=True)


def mlp(*layers):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), *layers, nn.Linear(8, 2))


def fine():
    """Two answers of which the larger is larger by a ten thousandth."""
    torch.manual_seed(4)
    first, last = nn.Linear(4, 16), nn.Linear(16, 2)
    with torch.no_grad():
        last.weight[1] = last.weight[0] + 1e-4 * torch.randn(16)
        last.bias[1] = last.bias[0]
    return nn.Sequential(first, nn.Tanh(), last)


def seeded(make, *given):
    torch.manual_seed(2)
    return make(*given)


def normed():
    torch.manual_seed(3)
    body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    body.train()
    for _ in range(5):
        body(torch.from_numpy(NUMBERS))
    return body


def t(kind, options, make, ends: Ends | None = None, **arguments) -> Case:
    return Case("PyTorch", kind, options, make, ends or Within(), arguments)


CASES = [
    *(
        t(name, how, lambda make=make, how=how: net(make(), NUMBERS, how=how), arguments=None)
        for name, make in {
            "Linear, ReLU": lambda: mlp(nn.ReLU()), "Linear, GELU": lambda: mlp(nn.GELU()),
            "Linear, LayerNorm, SiLU": lambda: mlp(nn.LayerNorm(8), nn.SiLU()), "BatchNorm and Dropout": normed,
        }.items()
        for how in ("pickle", "pt2", "script", "trace")
    ),
    t("BatchNorm and Dropout", "scripted in training mode", lambda: net(normed(), NUMBERS, how="training")),
    t("BatchNorm and Dropout", "scripted in training mode, --format torchscript", lambda: net(normed(), NUMBERS, how="training"), format="torchscript"),
    t("Linear, ReLU", "--format torchscript", lambda: net(mlp(nn.ReLU()), NUMBERS), format="torchscript"),
    *(t("LSTM", how, lambda how=how: net(seeded(Recurrent), SEQUENCES, how=how)) for how in ("pickle", "script", "trace")),
    t("LSTM", "pt2", lambda: net(seeded(Recurrent), SEQUENCES, how="pt2"), Refused("a trace takes no batch but one of the size")),
    t("GRU", "pickle", lambda: net(seeded(Recurrent, nn.GRU), SEQUENCES)),
    t("LSTM", "its first state made for the batch, pickle", lambda: net(seeded(Baked), SEQUENCES)),
    t("LSTM", "its first state made for the batch, trace", lambda: net(seeded(Baked), SEQUENCES, how="trace")),
    t("LSTM", "its first state made for the batch, script", lambda: net(seeded(Baked), SEQUENCES, how="script")),
    *(t("Conv2d", how, lambda how=how: net(seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))), IMAGES, how=how)) for how in ("pickle", "pt2")),
    t("TransformerEncoderLayer", "pickle", lambda: net(seeded(lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)), SEQUENCES), Refused("it has no ONNX form at opset 18")),
    t("TransformerEncoderLayer", "--format torchscript", lambda: net(seeded(lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)), SEQUENCES), format="torchscript"),
    t("MultiheadAttention by hand", "a mask of infinities, pickle", lambda: net(seeded(Masked), SEQUENCES)),
    t("MultiheadAttention by hand", "a mask of infinities, script", lambda: net(seeded(Masked), SEQUENCES, how="script")),
    t("Embedding", "tokens, no rows logged", lambda: net(seeded(Embedded), TOKENS)),
    t("Embedding", "tokens, rows logged", lambda: net(seeded(Embedded), TOKENS, example=True)),
    t("Embedding", "tokens, script", lambda: net(seeded(Embedded), TOKENS, how="script")),
    t("a branch on missing values", "pickle", lambda: net(Branch(), NUMBERS)),
    t("a branch on missing values", "script", lambda: net(Branch(), NUMBERS, how="script")),
    t("a branch that cannot be compiled", "pickle", lambda: net(Uncompiled(), NUMBERS), Refused("it has no ONNX form")),
    t("a branch on torch.equal", "pickle", lambda: net(Whole(), NUMBERS), Refused("it has no ONNX form")),
    t("a branch on torch.equal", "pickle, --format torchscript", lambda: net(Whole(), NUMBERS), format="torchscript"),
    t("a branch on torch.allclose", "pickle", lambda: net(Nearly(), NUMBERS), Refused("it has no ONNX form")),
    t("a branch on torch.allclose", "pickle, --format torchscript", lambda: net(Nearly(), NUMBERS), format="torchscript"),
    t("rows that are written into", "pickle", lambda: net(seeded(InPlace), NUMBERS)),
    t("rows that are written into", "pickle, --format torchscript", lambda: net(seeded(InPlace), NUMBERS), format="torchscript"),
    t("rows that are written into", "script", lambda: net(seeded(InPlace), NUMBERS, how="script")),
    t("single precision answered as double", "pickle", lambda: net(seeded(Doubled), NUMBERS)),
    t("a branch that is always taken", "pickle, --allow-tracer-warning", lambda: net(Always(), NUMBERS), tracer_warnings=("to a Python boolean",)),
    t("a branch that is always taken", "pickle", lambda: net(Always(), NUMBERS), Refused("it has no ONNX form")),
    t("the largest of a row", "NaN stays NaN, pickle", lambda: net(Largest(), NUMBERS)),
    t("a number for an infinite row", "pickle", lambda: net(Overlooks(), NUMBERS), Refused("infinite rows")),
    t("two outputs", "a list, pickle", lambda: net(seeded(Paired), NUMBERS)),
    t("two outputs", "a tuple, pickle", lambda: net(seeded(Several), NUMBERS)),
    t("two outputs", "a tuple, script", lambda: net(seeded(Several), NUMBERS, how="script")),
    t("two outputs", "a dict, pickle", lambda: net(seeded(Mapped), NUMBERS)),
    t("two outputs", "a dict, script", lambda: net(seeded(Mapped), NUMBERS, how="script")),
    t("one number a row", "without an axis, pickle", lambda: net(seeded(Flat), NUMBERS)),
    t("one number a row", "without an axis, script", lambda: net(seeded(Flat), NUMBERS, how="script")),
    t("two inputs", "by their arguments' names", lambda: net(seeded(Joined), NUMBERS, NUMBERS, names=["price", "book"])),
    t("two inputs", "by other names, script", lambda: net(seeded(Joined), NUMBERS, NUMBERS, how="script", names=["bid", "ask"])),
    t("two inputs", "with no names", lambda: net(seeded(Joined), NUMBERS, NUMBERS)),
    t("two inputs", "names that are no identifiers, --format torchscript", lambda: net(seeded(Joined), NUMBERS, NUMBERS, names=["bid-price", "book 2"]), Refused("cannot be an argument of TorchScript"), format="torchscript"),
    t("half", "pickle", lambda: net(Scaled(), HALVES)),
    t("double", "pickle", lambda: net(Scaled(), DOUBLES)),
    t("double", "layers, pickle", lambda: net(mlp(nn.Tanh()).double(), DOUBLES)),
    t("half", "layers, script", lambda: net(mlp(nn.Tanh()).half(), HALVES, how="script"), Within(2e-2)),
    t("whole numbers", "int64, script", lambda: net(Scaled(), TOKENS, how="script")),
    t("whole numbers", "int32, pickle", lambda: net(Scaled(), TOKENS.astype(np.int32))),
    t("a weight that is NaN", "pickle", lambda: net(seeded(Spoilt), NUMBERS), Refused("NaN")),
    t("a weight that is NaN", "script", lambda: net(seeded(Spoilt), NUMBERS, how="script"), Refused("NaN")),
    t("an answer that depends on the batch", "pickle", lambda: net(Batches(), NUMBERS), Refused("answers a row otherwise where others are beside it")),
    t("Linear, ReLU", "--precision fp16", lambda: net(mlp(nn.ReLU()), NUMBERS), Within(2e-2), precision="fp16"),
    t("Linear, ReLU", "--precision int8, no rows logged", lambda: net(mlp(nn.ReLU()), NUMBERS), Refused("can be quantized only on rows like its own"), precision="int8"),
    t("Linear, ReLU", "--precision int8, answers that eight bits cannot tell apart", lambda: net(fine(), NUMBERS, example=True), Refused("in int8 decides"), precision="int8"),
    t("Linear, ReLU", "--precision int8, --format torchscript", lambda: net(mlp(nn.ReLU()), NUMBERS, example=True), Refused("--precision int8 is for ONNX"), precision="int8", format="torchscript"),
    t("Linear, ReLU", "--precision fp64", lambda: net(mlp(nn.ReLU()), NUMBERS), Refused("--precision fp64 is for scikit-learn and LightGBM"), precision="fp64"),
]  # fmt: skip
for case in CASES:
    case.arguments.pop("arguments", None)
