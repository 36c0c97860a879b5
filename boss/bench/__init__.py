"""The benchmark of `boss-study bench`: our training steps beside the usual way to write them."""
