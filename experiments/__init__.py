"""The command line: training, evaluating and comparing tokenizers. It locks files and sends signals as POSIX systems do."""

import os

if os.name != "posix":
    raise SystemExit("error: the commands of experiments need Linux or macOS; the library tokenizer runs on other systems too")
