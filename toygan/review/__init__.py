"""People's decisions about pictures, and the page where they make them."""
