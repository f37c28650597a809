import os, re
print(bool(re.fullmatch(os.environ['P'], os.environ['V'])))
