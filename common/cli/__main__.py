"""`python -m common.cli`: the same as `imagesearch`."""

from common.cli.app import main

main()
