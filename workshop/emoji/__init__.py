"""How the emoji base was made: a small, complete Stable Diffusion taught on drawings from an emoji font."""
