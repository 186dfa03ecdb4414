"""Fits initial weights to a network of other classes, or of the same in another order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import Tensor, nn

from core.formatting import format_list
from core.labels import BACKGROUND
from core.models.blocks import SegmentationNetwork

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def fit_output_channels(
    weights: Mapping[str, Tensor],
    network: SegmentationNetwork,
    wider: SegmentationNetwork,
    before: Sequence[str],
    now: Sequence[str],
) -> tuple[dict[str, Tensor], str]:
    """Weights whose output channels are those of a network, by name.

    The channels of the classifier, and of classifiers of inner levels, are taken by the names of the classes; a class
    that the initial network did not know keeps its fresh weights. Where none is known but the background, and for a
    network whose classifier is not known (a user's own), all are taken in their order, with a warning.

    Parameters
    ----------
    weights : mapping of str to Tensor. Weights of the same architecture, by name.
    network, wider : SegmentationNetwork. The network to initialise, which is not changed, and one with one class more,
        of which only the numbers of channels are used.
    before, now : sequence of str. Names of the output channels of the initial network and of this one, as many.

    Returns
    -------
    weights : dict of Tensor. All of them.
    remark : str. What was done, as the end of a sentence; empty if nothing was.
    """
    known, names = [name.casefold() for name in before], [name.casefold() for name in now]
    fitted = dict(weights)
    if known == names:
        return fitted, ""
    places = list(_places_of_classes(network, wider))
    shared = [name for name in names if name in known and name != BACKGROUND]
    if not places or not shared:
        return fitted, f"; warning: its classes {format_list(before)} are taken for {format_list(now)} in this order"
    own = network.state_dict()
    for tensor, axis in places:
        if tensor in weights and weights[tensor].shape == own[tensor].shape:
            fitted[tensor] = own[tensor].clone()
            for index, name in enumerate(names):
                if name in known:
                    source = weights[tensor].select(axis, known.index(name))
                    fitted[tensor].select(axis, index).copy_(source)
    new = [name for name in now if name.casefold() not in known]
    return fitted, ", its classes by name" + (f"; {format_list(new)} new" if new else "")


def _places_of_classes(network: SegmentationNetwork, wider: SegmentationNetwork) -> Iterator[tuple[str, int]]:
    """Names of the tensors that have a channel for each class, and its axis: those of the layers that give an output
    and have one channel more for one class more."""
    if network.stages()[0].kind == "logits":  # what is inside is not known
        return
    names = {module: name for name, module in network.named_modules()}
    for layer, other in zip(network.layers_giving_outputs(), wider.layers_giving_outputs(), strict=True):
        axis = 1 if isinstance(layer, TRANSPOSED) else 0
        if other.weight.shape[axis] == layer.weight.shape[axis] + 1:
            yield f"{names[layer]}.weight", axis
            if layer.bias is not None:
                yield f"{names[layer]}.bias", 0
