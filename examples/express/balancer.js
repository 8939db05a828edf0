// SPDX-License-Identifier: PostgreSQL
//
// A load balancer: each request goes to the next instance. node balancer.js PORT…
'use strict';

const http = require('node:http');

const ports = process.argv.slice(2).map(Number);
let turn = 0;

const server = http.createServer((req, res) => {
  const port = ports[turn++ % ports.length];
  const onward = http.request({ host: '127.0.0.1', port, method: req.method, path: req.url, headers: req.headers }, (answer) => {
    res.writeHead(answer.statusCode, answer.rawHeaders);
    answer.pipe(res);
  });
  onward.on('error', () => {
    if (!res.headersSent) res.writeHead(502);
    res.end();
  });
  req.pipe(onward);
});

server.listen(0, '127.0.0.1', () => console.log(server.address().port));
