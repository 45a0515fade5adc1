// Package console is the virtio console device (virtio 1.2 §5.3), used for named byte streams
// between programs in the guest and this process: [Port]. It always offers
// VIRTIO_CONSOLE_F_MULTIPORT and is served in this process. The device is not a terminal: it has no
// size and no emergency write, and none of its ports is an hvc console.
//
// Port numbers start at 1. Linux (drivers/char/virtio_console.c) shows port N of device D as
// /dev/vportDpN, and the port's name in /sys/class/virtio-ports/vportDpN/name. From this name, udev
// creates the link /dev/virtio-ports/NAME. Port 0 has queues, as the specification requires, but
// the device never adds this port. A driver without multiport support would use port 0 as a
// console; the device discards what such a driver writes. The device reports a port as open before
// it reports the name, so that a port that a program finds by name is already connected. A program
// that opens the port by number may read end of file at first. Such a program should write before
// it reads, because the write waits until the port is connected.
//
// # Back pressure
//
// No data is dropped and no buffer grows. Data from the guest is consumed as fast as Conn accepts
// it; when Conn is slow, the ring fills and the guest's writer waits. The device reads Conn, one
// buffer at a time, only while a program in the guest has the port open and the ring has a receive
// buffer. At all other times the host waits. QEMU does the same. When the guest closes the port or
// resets the device, the device may hold data from Conn that it has not delivered. The next program
// that opens the port receives this data. Data that a program wrote before it closed the port is
// still written to Conn. A port that waits does not block the other ports.
//
// The control queues cannot block. The device stores which messages are due for each port, not a
// list of messages, so a guest that sends requests but provides no buffers for answers uses no
// memory.
//
// # When the host disconnects
//
// The device hangs up the port permanently after Conn.Read returns end of file or an error, once
// all data read earlier is delivered. It also hangs up the port after Conn.Write returns an error,
// and then discards what the guest writes. The device notifies the guest that the port is closed,
// and readers in the guest see end of file. The device itself continues to work.
//
// # Concurrency
//
// Activate, Reset and Close must be called one at a time. From New to Close, each Port has one
// goroutine that reads from Conn and one that writes to Conn. Each of these goroutines allocates
// one buffer of 32 KiB when it first needs the buffer. Each enabled queue has a goroutine from
// Activate to Reset, which never calls Conn. Therefore Reset does not wait for the host, and a
// reset loses no data in flight. At Close, up to 32 KiB that the guest has written may not have
// reached Conn. A protocol that must not lose these bytes needs its own acknowledgments.
package console
