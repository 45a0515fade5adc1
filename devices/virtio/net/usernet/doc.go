// Package usernet is a backend of the virtio network device for a user without
// privileges: the other end of the wire is a TCP/IP stack in this process
// (gVisor's), which ends the guest's connections and goes on with ordinary
// sockets of the host. It needs no tap, no capability and no kernel module.
//
// # What the guest sees
//
// A network 10.0.2.0/24 with one neighbour, 10.0.2.2, which is gateway, DHCP
// server and name server; the lease is always 10.0.2.15. Names go to the
// resolvers of the host's /etc/resolv.conf. TCP and UDP go wherever [Public]
// allows: never to the host's loopback, to link-local addresses, to a group or
// a broadcast address. What is refused, or refuses, answers with a reset or an
// ICMP error; an echo request is answered by whom it was sent to or not at all.
// There is no IPv6 yet: such frames are dropped.
//
// # The way of a frame
//
// A frame from the guest is copied once, from its buffers into a packet that
// the stack keeps; a segment of 64 KiB is one packet (HOST_TSO), and one write
// to the socket takes it from there. The other way a read from the socket goes
// into memory that the stack keeps, as large as one segment, and is copied from
// there to the guest's buffers, again in one piece (GUEST_TSO), by whichever
// goroutine sends it. When the ring is full, up to maxBacklog bytes wait for it;
// then packets are dropped, as on any wire, and TCP sends them again. A bare
// acknowledgement waits a moment for the data that will carry it (acks.go).
//
// Checksums of what the guest sends are not verified: between its memory and
// this process nothing breaks a bit.
//
// # Limits
//
// Connections, datagram flows and connection attempts are counted and capped
// (limits.go). When a cap on flows or attempts is reached, the oldest makes
// room; a connection too many is reset. Socket buffers get smaller as
// connections get more.
//
// # Concurrency and lifetime
//
// [New] binds the published ports, so that one in use is known before a guest
// starts; Close unbinds them. Start makes a fresh stack and Stop takes it apart
// with all its connections: on return no goroutine of it is left. A panic in
// the stack, in the goroutines and timers that are started here, is caught: it
// ends the data path through [virtio.Activation].Failed, and a reset by the
// driver makes a new stack.
package usernet
