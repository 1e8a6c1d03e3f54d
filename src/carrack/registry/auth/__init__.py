"""Who asks, and what they may do: `Gate.admit` stands before every route, and nothing else decides."""
