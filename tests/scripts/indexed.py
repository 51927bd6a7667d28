"""The index as a process reads it from the cache."""

import json

from rl_discovery.scripts.index_document import commands, index_document

DOCUMENT = json.loads(json.dumps({**index_document(), "commands": commands()}))
