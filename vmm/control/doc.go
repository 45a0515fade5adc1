// Package control is how other programs find a running machine and talk to it: a name, a socket, one request, one answer.
//
// What it is: [Claim] takes a name for a machine, [Name.Serve] answers at the socket of that name, [Call] and [Find] are
// the other side. What it is not: a server for other hosts or users, and no part of a machine; what is answered is
// [Machine]'s.
//
// # Places
//
// The socket of machine NAME is NAME.sock in the first folder that can be made: for root /run/minivmm; for others
// $XDG_RUNTIME_DIR/minivmm, /run/user/UID/minivmm or /tmp/minivmm-UID. In a user namespace, UID is who began it. Folders have the mode 0700 and must be the
// user's own, sockets 0600: the user and root can connect, nobody else. A
// running machine holds a lock (flock(2)) on NAME.lock beside the socket and in those of the other folders that are there, so that one
// that was begun with another environment cannot have the name too. A machine that was killed leaves both files; without the lock they are stale, and the
// next machine of that name replaces them. Its socket refuses connections, which is how a client knows.
//
// # Protocol
//
// A connection carries one request and one answer, each a JSON object on one line. The request names the version, 1, and
// a command; the answer has the version and either the error or what was asked for:
//
//	{"version":1,"command":"about"}              {"version":1,"about":{"name":"web","pid":1234,...}}
//	{"version":1,"command":"workers"}            {"version":1,"workers":{...}}
//	{"version":1,"command":"stop"}               {"version":1}
//	{"version":1,"command":"stop","now":true}    {"version":1}
//	{"version":1,"command":"tune","tune":{"device":"net0","affinity":"2-3"}}
//	                                             {"version":1}
//	{"version":1,"command":"rescan"}             {"version":1,"disks":[{"id":"disk0","size_bytes":1073741824,"told":true}]}
//	{"version":1,"command":"dance"}              {"version":1,"error":"no command \"dance\": ..."}
//
// Unknown keys in a request are errors; clients ignore those in an answer, which may grow within a version. A request is at
// most 4 KiB, and must be there 5 s after connecting. The objects are those of package account.
//
// # Cost and concurrency
//
// Until somebody connects, a served name is two files, two descriptors and a goroutine in accept. At most 8 connections are served
// at a time; further ones wait. Close ends them all.
package control
