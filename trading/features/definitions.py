"""The one feature kernel, used live and in training. 32 float32 features a tick.

Notation: m is the mid (mean of best bid and ask, else the latest trade), x = ln m, r the change
of x since the symbol's previous tick, t the event time. "EWMA n" has weight 2 / (n + 1) on the
newest tick; "half-life h" decays by event time with 2^(-dt / h). Where a tick lacks a field the
standing value is used; what cannot be known yet is 0. A tick whose event time is older than the
symbol's newest is taken at the newest time, so that time never runs backwards; equal times are
ordinary ticks. A symbol is warm after `WARM_TICKS` ticks with a known mid.

| features | unit | formula | source |
| --- | --- | --- | --- |
| return_1s ... return_20d | log return | x(t) - x(floor(t / d) d - h), d = h / 8, previous-tick sampling; since the first tick while history is shorter | Dacorogna et al. (2001), An Introduction to High-Frequency Finance, 2.2 |
| volatility_10s ... volatility_20d | log return | sqrt(V), V <- V 2^(-dt/h) + r^2 | RiskMetrics (1996), with decay by event time |
| spread_bps | bp | 1e4 (ask - bid) / m | |
| spread_zscore | standard deviations | (s - EWMA 256 of s) / its EW standard deviation | Finch (2009), Incremental calculation of weighted mean and variance |
| size_imbalance | share, -1 to 1 | (bid size - ask size) / (bid size + ask size) | Cont, Kukanov and Stoikov (2014) |
| microprice_deviation_bps | bp | 1e4 (bid ask_size + ask bid_size) / (sizes) / m - 1e4 | Stoikov (2018), The micro-price |
| trade_flow_10s, trade_flow_10m | share, -1 to 1 | decayed sum of side x size / decayed sum of size, in [-1, 1] | sides: Lee and Ready (1991) |
| tick_rate | ln(1 + 1/s) | ln(1 + ticks a second, half-life 10 s) | |
| rsi_14 | -1 to 1 | RSI / 50 - 1, a tick a bar | Wilder (1978) |
| macd, macd_histogram | log price | EMA12(x) - EMA26(x); minus its EMA9 | Appel (1979) |
| range_14 | log return | Wilder average of abs(r) | Wilder (1978), average true range |
| bollinger_position | half band widths | (x - EWMA 20) / (2 EW standard deviations) | Bollinger (2001) |
| drawdown_10m, drawdown_20d | log return, at most 0 | x - rolling high of x (at most 0) | |
| time_of_day_sin ... week_cos | -1 to 1 | sine and cosine of the UTC day and of the week | |
| log_gap | ln(1 + s) | ln(1 + seconds since the symbol's previous tick) | |
| return_zscore | standard deviations | r / EW standard deviation of r (20 ticks) | |
"""

from __future__ import annotations

#: Raise it whenever a formula, the order or the meaning of a feature changes.
FEATURE_VERSION = 1
WARM_TICKS = 64

FEATURES: tuple[str, ...] = (
    *(f"return_{h}" for h in ("1s", "10s", "1m", "10m", "1h", "1d", "5d", "20d")),
    *(f"volatility_{h}" for h in ("10s", "10m", "1d", "20d")),
    "spread_bps",
    "spread_zscore",
    "size_imbalance",
    "microprice_deviation_bps",
    "trade_flow_10s",
    "trade_flow_10m",
    "tick_rate",
    "rsi_14",
    "macd",
    "macd_histogram",
    "range_14",
    "bollinger_position",
    "drawdown_10m",
    "drawdown_20d",
    "time_of_day_sin",
    "time_of_day_cos",
    "week_sin",
    "week_cos",
    "log_gap",
    "return_zscore",
)
#: Column of each feature.
COLUMN = {name: column for column, name in enumerate(FEATURES)}
