// Package lan connects the machines of one user to a named network, across processes and without
// privileges. Each station has a Unix socket connection (unix(7), SOCK_SEQPACKET) to every other
// station, and one message is one frame. There is no switch process that could fail: when a station
// exits for any reason, only its own connections close.
//
// Stations find each other in a folder that only this user can enter:
//
//	lock           locked (flock(2)) by a station while it joins
//	NAME.station   locked by the station while it exists; contains its name, address and MAC
//	NAME.sock      the socket on which it listens
//
// A joining station takes the lock, picks an address that no live station has, listens, and
// connects to each live station. So every pair of stations has one connection, created by the
// station that joined later. The kernel releases a lock when its process exits: a station whose
// file is not locked is dead, and the next station that joins removes the dead station's files.
//
// The package does not parse frames; the caller passes the destination address. The package trusts
// the user's processes, but not the guests that they run: the queue for a station that does not
// read is bounded, and further frames are dropped.
//
// [Join] creates a [Station]. [Station.Close] leaves the network; after it returns, none of the
// station's goroutines is running. All other methods are safe for concurrent use.
package lan
