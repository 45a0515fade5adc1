// Package lan joins machines of one user to a named network, across processes and
// without privileges: every station is connected with every other by a Unix
// socket (unix(7), SOCK_SEQPACKET), and one message is one frame. There is no
// switch that could die: a station that ends, by whatever means, takes only its
// own connections along.
//
// The meeting place is a folder, which only its user may enter:
//
//	lock           locked (flock(2)) by who joins, for as long as that takes
//	NAME.station   locked by the station for its life; its name, address and MAC
//	NAME.sock      where it listens
//
// Who joins holds the lock, takes an address that no live station has, listens,
// and connects to each live station. So every pair has one connection, which the
// later one made. The kernel drops a lock with its process: a station whose file
// is not locked is dead, and the next that joins removes what it left.
//
// The package does not look into frames but for the address they are for, which
// the caller gives. It trusts the processes of the user, not their guests: what
// waits for a station that does not read is bounded, and then dropped.
//
// A [Station] is joined by [Join] and left by Close, on return of which no
// goroutine of it is left. Everything else is safe for use by many goroutines.
package lan
