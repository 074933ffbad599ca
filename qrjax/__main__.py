import sys

from qrjax._cli import main

sys.exit(main())
