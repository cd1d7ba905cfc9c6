from pathlib import Path
def write(setting, outcomes, seconds): return Path("x")
