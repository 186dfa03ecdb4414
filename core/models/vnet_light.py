"""V-Net without its lowest level and with fewer convolutions: MedicalZooPytorch's lighter version.

Four resolutions with 16 to 128 channels instead of five, residual stages of 5x5x5 convolutions as in
:mod:`core.models.vnet`, of which the numbers are::

    level              encoder              decoder
    0, full size       1 x  16 ------------ 1 x  32 -> classes
    1                   1 x  32 ---------- 1 x  64
    2                    2 x  64 -------- 2 x 128
    3                          3 x 128

No paper describes it, and the library states no number of parameters; with one modality and two classes there are
12,231,570. The numbers of convolutions are also those of the authors' Caffe file of V-Net at these levels. It has the
layers of the library's VNetLight, with the differences of :mod:`core.models.vnet`: the last convolution is 1x1x1, as in
the paper of V-Net (the library's is 5x5x5 and followed by one more), an image of several channels reaches the first sum
through a 1x1x1 convolution (the library repeats its channels, which fails where 16 is no multiple of them), and dropout
is left out.

F. Milletari, N. Navab, S.-A. Ahmadi: V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
Segmentation. 3DV 2016, arXiv:1606.04797.
"""

from __future__ import annotations

from core.models.vnet import VNet

ENCODER_CONVOLUTIONS = (1, 1, 2, 3)  # at each level; the last number holds for all levels below
DECODER_CONVOLUTIONS = (1, 1, 2)


class VNetLight(VNet):
    """A light V-Net; parameters as :class:`core.models.vnet.VNet`, but for the numbers of convolutions."""

    @staticmethod
    def encoder_convolutions(level: int) -> int:
        return ENCODER_CONVOLUTIONS[min(level, len(ENCODER_CONVOLUTIONS) - 1)]

    @staticmethod
    def decoder_convolutions(level: int) -> int:
        return DECODER_CONVOLUTIONS[min(level, len(DECODER_CONVOLUTIONS) - 1)]
