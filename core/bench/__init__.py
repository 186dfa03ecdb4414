"""Measurements side by side: our training step, prediction and augmentation beside nnU-Net, MONAI and TorchIO.

Each module measures one thing and returns a :class:`~core.bench.report.Report`, one table. The peers are imported only
where they are asked for; where one is not installed, its row says so.
"""
