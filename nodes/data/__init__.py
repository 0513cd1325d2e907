"""Data in flight: label sets, series, frames, part keys and containers, without where they come from."""
