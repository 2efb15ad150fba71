"""From new photos to a new champion: a challenger is trained, measured beside the champion, and judged."""
