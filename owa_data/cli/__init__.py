"""The console command `owa-data`. One module per subcommand, each with `add_parser`; `main.py` lists them."""
