// Package agent defines the protocol between the host and the init of a guest or an emulated host.
// It consists of the plan, the command, and the channel on which the command arrives.
//
// The plan is JSON in the initial RAM file system. The channel is a byte stream, a virtio-serial
// port, that carries frames. Byte 0 of a frame is the frame's kind. Bytes 1 to 4 are the length of
// the payload, big endian. The payload follows. Frames keep standard input, output and error
// separate and binary-clean, and also carry the end of the input and the exit status. A Session is
// the host's end of the channel.
//
// Conn.Send is safe for concurrent use; Conn.Receive must be called by one goroutine at a time. A
// Session belongs to one command.
package agent
