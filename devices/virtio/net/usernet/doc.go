// Package usernet is a backend of the virtio network device that needs no privileges, tap or kernel
// module. The other end of the wire is a TCP/IP stack in this process (gVisor's). It terminates the
// guest's connections and continues them on ordinary sockets of the host.
//
// # What the guest sees
//
// The guest is on the network 10.0.2.0/24 with one neighbor, 10.0.2.2, which is its gateway, DHCP
// server and name server. The lease is always 10.0.2.15. Names are resolved by the resolvers in the
// host's /etc/resolv.conf. TCP and UDP reach whatever the [Policy] allows. Without a rule the
// policy never allows the host's loopback addresses, or link-local, multicast or broadcast
// addresses (see public in policy.go). If the policy forbids a destination, or the destination
// refuses the connection, the guest gets a reset or an ICMP error. An echo request is answered only
// by its real destination.
//
// On a named [Network] (package lan) there are other guests beside the gateway, each with its own
// address. Frames between guests pass unchanged, large segments included, after both ends have
// checked them: a guest may send only with its own addresses (lanport.go). The gateway resolves the
// other guests' names.
//
// In IPv6 the network is fd00:10:0:2::/64. The gateway is fd00:10:0:2::2, and its link-local
// address is fe80::2. It is a router that answers solicitations (radv.go, RFC 4861), and a DHCPv6
// server that assigns no addresses. It is a default router only while the host itself has IPv6.
// There is no IPv6 between the guests of a named network.
//
// The gateway counts as one router: it decrements the TTL or hop limit of a packet and sets the
// result on the host's socket. The host's sockets also collect ICMP errors. The guest gets each
// error with the error's original sender and a quotation of the guest's own packet (icmp.go).
//
// # The path of a frame
//
// A frame from the guest is copied once, from its buffers into a packet that the stack keeps. A
// segment of 64 KiB is one packet (HOST_TSO), and one write passes it to the socket. In the other
// direction a read from the socket fills memory that is as large as one segment and that the stack
// keeps. The goroutine that sends the segment copies it into the guest's buffers, again in one
// piece (GUEST_TSO).
//
// When the receive ring is full, up to maxBacklog bytes wait for it, and further packets are
// dropped, as on any wire. Data of TCP connections is not dropped, because TCP would detect the
// loss late. All data in the connections' send buffers may wait (maxSending), and while much of it
// waits, the connections stop reading from the host. A bare acknowledgment waits briefly for data
// that can carry it (acks.go). The interrupt for a single small frame from the guest waits, too
// (transmit.go).
//
// Checksums of frames from the guest are not verified: no bit is corrupted between the guest's
// memory and this process.
//
// # Limits
//
// Connections, datagram flows (type flows) and attempts (type attempts) are counted and limited
// (limits.go). An attempt is a connection being established, a DNS query or an echo. A connection
// over the limit is reset. A connection from the guest counts as an attempt until the guest has
// completed its handshake. Socket buffers share a budget: later connections get smaller buffers.
// The stack limits fragments, and package lan limits the frames that wait for other guests of a
// named network. The memory for all of this stays below maxMemory.
//
// # Concurrency and lifetime
//
// [New] binds the published ports, so that a port in use is reported before the guest starts; Close
// unbinds them. Start creates a new stack. When the activation ends, the stack and all its
// connections are destroyed: no goroutine is left after Stop.
//
// A panic is caught in the goroutines that this package starts, in the stack's timers (netstack.go)
// and in the code of this package that the stack calls (link.WritePackets). A caught panic stops
// the data path through [virtio.Activation].Failed, and a reset by the driver creates a new stack.
// The stack itself starts two kinds of goroutines in which this package cannot catch a panic: its
// TCP processors, which handle the segments of established connections, and the goroutines that
// drop packets waiting for a neighbor's address. A panic of the stack's own code in these
// goroutines terminates the process.
package usernet
