from qrjax._cli._main import main as main
