import socket
try: socket.create_connection(('192.0.2.1', 80), 2)
except OSError as e: open('/opt/ml/processing/out/o/f', 'w').write(str(e.strerror))
