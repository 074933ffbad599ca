"""Coefficients of the fixed-point polynomials; written by tests/recipes/fit_quantiles.py.

Each row is one polynomial, highest power first, as unsigned integers. Do not edit by hand: the
recipe states the functions, the pieces and the scales, and the tests check the values against float64.
"""

# z / v for |z| < 2, in 2**-30; the pieces of v**2 end at 1/2, 3/4, 7/8, 15/16, 1
# largest error of a row, before rounding: 1.0e-07
TRUNCATED = (
    (0x000CEBD8, 0x00000000, 0x0010E72D, 0x00491685, 0x00AF281B, 0x024A9BD1, 0x092161C0, 0x4C8FFBDB),
    (0x00064F6C, 0x00000000, 0x000DC9D8, 0x002E886A, 0x0088ED1D, 0x01F2F2F5, 0x08CBBF50, 0x59120B90),
    (0x0001E7F4, 0x00000000, 0x00076D41, 0x0016E86B, 0x005612EE, 0x016D2C1E, 0x07BBDCCE, 0x649C4CC8),
    (0x00004C39, 0x00000720, 0x00022FD5, 0x00081179, 0x002810D5, 0x00DAD427, 0x06134636, 0x6E3BA648),
    (0x00035907, 0x00000000, 0x0009E3F6, 0x001F1542, 0x0068906C, 0x01A023BD, 0x086E935E, 0x755C6629),
)

# z / v for v < 15/16, in 2**-28; the pieces of v**2 end at 1/2, 3/4, 1
# largest error of a row, before rounding: 1.4e-07
NORMAL_CENTRE = (
    (0x00036812, 0x00000000, 0x00000000, 0x000F33A7, 0x001478FD, 0x003F572B, 0x00B8AC5C, 0x029FFB8E, 0x140D9323),
    (0x0003432E, 0x00000000, 0x00000000, 0x000EBB67, 0x0013FAFD, 0x003E9AC8, 0x00BA67E4, 0x02C445AE, 0x17CCA708),
    (0x032B997C, 0x00000000, 0x00000000, 0x01B1E634, 0x01403F63, 0x01E0F27D, 0x02DDE0E7, 0x05A89975, 0x1BAFE912),
)

# (NORMAL_TAIL_TOP - z) / x at -log2(2 p) = octave * (2 - x), in 2**-28; octaves 4, 8, 16, 32
# largest error of a row, before rounding: 3.2e-07
NORMAL_TAIL = (
    (0x0001FC55, 0x00000000, 0x000338E7, 0x000C5FA3, 0x00203EF6, 0x006EEB1C, 0x01C67959, 0x0DF6973D),
    (0x0003EB75, 0x00000000, 0x000466D5, 0x0015331F, 0x0030BB9D, 0x00A353E5, 0x0286B7E1, 0x138F01DF),
    (0x0006447F, 0x00000000, 0x0005A4BF, 0x001FF82A, 0x0044F429, 0x00E5E5D0, 0x0385E2F7, 0x1B58C983),
    (0x000914A1, 0x00000000, 0x00076752, 0x002D67EE, 0x005FA081, 0x013F5162, 0x04E5E61D, 0x265112B7),
)
NORMAL_TAIL_TOP = (0x2E2B8F84, 0x4532DE4F, 0x65684664, 0x927C1553)

# -log2(1 - s) / s in 2**-30; the pieces of s end at 1/4, 1/2
# largest error of a row, before rounding: 5.7e-08
LOG2 = (
    (0x0001ED4A, 0x00021100, 0x0013C84F, 0x005BD946, 0x01EC85F4, 0x0B8AA255, 0x5C551D98),
    (0x000F0461, 0x00000000, 0x00493E6B, 0x00E27BD1, 0x03A92422, 0x10DC3725, 0x6A3FE5DE),
)

# (1 - sqrt(1 - s)) / s for s in [0, 1/2], in 2**-31
# largest error of a row, before rounding: 1.4e-08
SQRT = ((0x06924A5B, 0x00000000, 0x00000000, 0x04546EE0, 0x02FD2206, 0x0512587D, 0x07FEDA5F, 0x10000654, 0x3FFFFFFB),)

# cos(pi / 2 * sqrt(1 - s)) for s in [0, 1], in 2**-31
# largest error of a row, before rounding: 7.5e-13
COSINE = ((0x000003C5, 0x0000BC8D, 0x001A37DF, 0x023B1F28, 0x1921FB57, 0x6487ED51, 0x00000000),)

# sin(pi / 2 * x) / x, x = sqrt(1 - s), for s in [0, 1], in 2**-31
# largest error of a row, before rounding: 7.9e-14
SINE = ((0x00000075, 0x00001B6A, 0x0004B1EB, 0x0085866B, 0x0885866D, 0x40000000, 0x80000000),)
