// Package console is the virtio console device (virtio 1.2 §5.3), used for named byte streams
// between programs in the guest and this process: [Port]. It always offers
// VIRTIO_CONSOLE_F_MULTIPORT and is served in this process. It is not a terminal: it has no size
// and no emergency write, and no port is an hvc console.
//
// Port numbers start at 1. Linux (drivers/char/virtio_console.c) shows port N as /dev/vportDpN and
// its name in /sys/class/virtio-ports/vportDpN/name. udev creates /dev/virtio-ports/NAME from it.
// Port 0 has queues, as the specification requires, but is never added. A driver without multiport
// support would make it a console; the device discards what such a driver writes. The device
// reports a port as open before it reports the name, so that a program that finds the port by name
// finds it connected. A program that opens the port by number may read end of file at first. It
// should write first: the write waits until the port is connected.
//
// # Back pressure
//
// No data is dropped and no buffer grows. Data from the guest is consumed as fast as Conn accepts
// it; when Conn is slow, the ring fills and the guest's writer waits. Conn is read only while a
// program in the guest has the port open, one buffer at a time; until then, and while there is no
// receive buffer, the host waits. QEMU does the same. Data that was read from Conn but not
// delivered when the guest closes the port or resets the device goes to the next program that opens
// the port. Data that a program wrote before it closed the port is still written to Conn. A port
// that waits does not block the other ports.
//
// The control queues cannot block. The device stores which messages are due for each port, not a
// list of messages, so a guest that sends requests but provides no buffers for answers uses no
// memory.
//
// # When the host disconnects
//
// The port is hung up permanently after end of file or an error of Conn.Read, once the data read
// before it is delivered, or after an error of Conn.Write. The guest is notified that the port is
// closed, and its readers see end of file. After an error of Write the device discards what the
// guest writes. The device itself continues to work.
//
// # Concurrency
//
// Activate, Reset and Close must be called one at a time. Each Port has one goroutine that reads
// Conn and one that writes it, from New to Close. Each uses one buffer of 32 KiB, allocated when it
// is first needed. Each enabled queue has a goroutine from Activate to Reset, which never calls
// Conn. Therefore Reset does not wait for the host, and a reset loses no data in flight. Up to 32
// KiB that the guest has written may not have reached Conn at Close: a protocol that must not lose
// them needs acknowledgments of its own.
package console
