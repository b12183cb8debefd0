"""The local cluster: broker and services as supervised processes, and what can be seen of them."""
