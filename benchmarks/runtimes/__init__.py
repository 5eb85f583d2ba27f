"""The same network, VGG16 up to fc1, in several runtimes. Each module runs as a process of its own."""
