"""From SOURCEs to a dataset on disk: features, bars, labels, splits."""
