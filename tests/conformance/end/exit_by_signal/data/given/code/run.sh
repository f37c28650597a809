set -e
python3 -c 'import os; os.kill(os.getpid(), 11)'
