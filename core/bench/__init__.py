"""Benchmarks of training steps, inference and augmentation, side by side with nnU-Net, MONAI and TorchIO.

Each module measures one of them and returns a :class:`~core.bench.report.Report`. In names, *peers* are the other
libraries. They are optional: imported on demand, and a row reports one that is missing.
"""
