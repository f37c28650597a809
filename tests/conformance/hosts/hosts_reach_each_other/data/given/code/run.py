import json, socket, threading, time
c = json.load(open('/opt/ml/config/resourceconfig.json'))
me = c['current_host']
s = socket.create_server((me, 8080))
def serve():
    for _ in range(2):
        p, _ = s.accept(); p.sendall(me.encode()); p.close()
t = threading.Thread(target=serve); t.start()
heard = []
for h in c['hosts']:
    for _ in range(100):
        try:
            heard.append(socket.create_connection((h, 8080), 1).recv(99).decode()); break
        except OSError: time.sleep(0.1)
t.join()
open('/opt/ml/processing/out/o/' + me[:6], 'w').write(' '.join(heard))
time.sleep(1)
