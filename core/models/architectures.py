"""The networks of the registry, one entry each; importing it needs no torch."""

from __future__ import annotations

from core.models.architecture import Architecture

ARCHITECTURES = (
    Architecture(
        name="unet3d",
        module="core.models.unet3d",
        class_name="UNet3D",
        help="3D U-Net (Cicek et al. 2016); 3x3x3 convolutions",
        channels=(64, 128, 256, 512),
        options=("channels", "convolutions", "norm", "activation", "downsampling", "widening", "full_resolution"),
        aliases=("UNET3D",),
    ),
    Architecture(
        name="vnet",
        module="core.models.vnet",
        class_name="VNet",
        help="V-Net (Milletari et al. 2016); residual, 5x5x5 convolutions",
        channels=(16, 32, 64, 128, 256),
        options=("channels", "norm"),
        fixed_options={"activation": "prelu", "downsampling": "stride", "widening": "after"},
        aliases=("VNET",),
    ),
)
