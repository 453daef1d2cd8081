"""Columns of the table of numbers that describes the light of a scene to compiled code."""

SUN_DIRECTION, SUN_RGB, HORIZON_RGB, ZENITH_RGB = 0, 3, 6, 9
"""Each the first of three columns: unit vector towards the sun (world), radiances."""
FOG_PER_M, AIR_C, SUN_LOAD_C, LAMPS, WET, CLOUD_SEED = 12, 13, 14, 15, 16, 17
LIGHT_COLUMNS = 18
