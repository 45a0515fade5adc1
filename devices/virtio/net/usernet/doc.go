// Package usernet is a backend of the virtio network device for a user without
// privileges: the other end of the wire is a TCP/IP stack in this process
// (gVisor's), which ends the guest's connections and goes on with ordinary
// sockets of the host. It needs no tap, no capability and no kernel module.
//
// # What the guest sees
//
// A network 10.0.2.0/24 with one neighbour, 10.0.2.2, which is gateway, DHCP
// server and name server; the lease is always 10.0.2.15. Names go to the
// resolvers of the host's /etc/resolv.conf. TCP and UDP go wherever the [Policy]
// allows; without one, never to the host's loopback, to link-local addresses, to
// a group or a broadcast address (policy.go, public). What is refused, or refuses, answers
// with a reset or an ICMP error; an echo request is answered by whom it was sent
// to or not at all.
//
// On a named [Network] (package lan) there are other guests beside the gateway,
// and each has an address of its own. Their frames cross as they are, large
// segments included, after a look at both ends: a guest speaks in its own name
// only (lanport.go). The gateway answers for their names.
//
// In IPv6 the network is fd00:10:0:2::/64 and the gateway ::2 in it, and fe80::2 as
// a neighbour: a router that answers solicitations (radv.go, RFC 4861), and a
// DHCPv6 server without addresses. It is a default router as long as the host has
// IPv6 itself. Between guests of a named network there is none.
//
// A packet may pass as many routers as its TTL or hop limit says: the gateway is
// one, and sets what is left on the host's socket. Those sockets keep their ICMP
// errors (errqueue.go), and the guest gets each with its sender and a quotation of
// its own packet (icmp.go).
//
// # The way of a frame
//
// A frame from the guest is copied once, from its buffers into a packet that
// the stack keeps; a segment of 64 KiB is one packet (HOST_TSO), and one write
// to the socket takes it from there. The other way a read from the socket goes
// into memory that the stack keeps, as large as one segment, and is copied from
// there to the guest's buffers, again in one piece (GUEST_TSO), by whichever
// goroutine sends it. When the ring is full, up to maxBacklog bytes wait for it;
// then packets are dropped, as on any wire. What a connection has sent is not, as
// TCP would find it out late: there is a place for all that the connections'
// buffers hold (maxSending), and they take no more from the host meanwhile. A bare
// acknowledgement waits a moment for the data that will carry it (acks.go), and so
// does an interrupt for one small frame that was taken (transmit.go).
//
// Checksums of what the guest sends are not verified: between its memory and
// this process nothing breaks a bit.
//
// # Limits
//
// Connections, datagram flows and attempts (connections in the making, questions,
// echoes) are counted and capped (limits.go). When the cap on attempts is
// reached, the oldest makes room, first of all one to the same destination; of
// flows, the one that was idle longest among those of whoever has most, the guest
// or one published port; a connection too many is reset. A connection from the guest counts as an attempt
// until the guest has finished its handshake. Socket buffers come out of a budget
// and get smaller as connections get more; fragments are bounded by the stack,
// and what waits for other guests of a named network by package lan. Together
// that stays under maxMemory.
//
// # Concurrency and lifetime
//
// [New] binds the published ports, so that one in use is known before a guest
// starts; Close unbinds them. Start makes a fresh stack, which is taken apart with
// all its connections when the activation ends: after Stop no goroutine is left.
//
// A panic in the goroutines that are started here, in the stack's timers (clock.go)
// and in what the stack calls of ours (link.WritePackets) is caught: it ends the
// data path through [virtio.Activation].Failed, and a reset by the driver makes a
// new stack. Two kinds of goroutines are the stack's own, start inside it and
// cannot be recovered or replaced from outside: its TCP processors (segments of
// connections that stand) and those that give up packets which waited for a
// neighbour's address. A panic of the stack's own code there ends the process.
package usernet
