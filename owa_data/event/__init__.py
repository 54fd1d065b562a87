"""Activity intervals, per-topic resampling, event rows."""
