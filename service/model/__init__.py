"""The networks: VidTr and C-VidTr (arXiv 2104.11746), their presets and their export to a served model."""
