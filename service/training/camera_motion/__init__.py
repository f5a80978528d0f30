"""Camera motion, generated: clips of a virtual camera that moves over still pictures, with their labels.

Names follow the camera, as film people use them: in `pan_left` the camera turns left and the picture's content moves
right; in `roll_cw` the camera rolls clockwise and the content turns counter-clockwise. The way of the data:
`textures` (pictures) -> `trajectories` (how the camera moves) -> `render` (frames) -> `degrade` (what lenses, sensors
and encoders do to them) -> `generator` (labeled batches); `symmetry` turns one clip into its mirrored equals.
"""
