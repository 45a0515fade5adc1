// Package control lets other programs find a running machine and send requests to it, through a
// Unix socket: one request and one response per connection.
//
// [Claim] claims a name for a machine and [Name.Serve] serves the socket of that name. Clients use
// [Call] and [Find]. The server is not for other hosts or users. It does not know machines;
// [Machine] handles the requests.
//
// # Places
//
// The socket of machine NAME is NAME.sock in the first directory that can be created: for root
// /run/minivmm; for others $XDG_RUNTIME_DIR/minivmm, /run/user/UID/minivmm or /tmp/minivmm-UID. In
// a user namespace, UID is the user who created it. Directories have mode 0700 and must belong to
// the user, sockets 0600: only the user and root can connect.
//
// A running machine holds a lock (flock(2)) on NAME.lock next to the socket and in each of the
// other directories that exist, so that a machine started with another environment cannot have the
// same name. A machine that was killed leaves both files behind, which the next machine with that
// name replaces. A stale socket refuses connections, so clients recognize it.
//
// # Protocol
//
// A connection carries one request and one response, each a JSON object on one line ([Request] and
// [Response]; docs/operating.md has examples):
//
//	{"version":1,"command":"stop","now":true}    {"version":1}
//	{"version":1,"command":"dance"}              {"version":1,"error":"unknown command \"dance\": ..."}
//
// Unknown keys in a request are errors; clients ignore unknown keys in a response, so that
// responses can grow within a version. A request is at most 4 KiB and must arrive within 5 s of
// connecting.
//
// Until a client connects, a served name costs two files, two descriptors and a goroutine in
// accept. At most 8 connections are served at a time; further ones wait. Close closes them all.
package control
