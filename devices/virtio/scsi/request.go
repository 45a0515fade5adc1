package scsi

import (
	"encoding/binary"
	"sync/atomic"

	"minivmm/devices/virtio/queue"
	"minivmm/devices/virtio/scsi/target"
)

// Response codes (virtio 1.2 §5.6.6.1, VIRTIO_SCSI_S_*).
const (
	responseOK                = 0 // also FUNCTION_COMPLETE
	responseOverrun           = 1
	responseAborted           = 2
	responseBadTarget         = 3
	responseReset             = 4
	responseFunctionSucceeded = 10
	responseFunctionRejected  = 11
	responseIncorrectLUN      = 12
)

// Sizes of struct virtio_scsi_req_cmd and virtio_scsi_resp_cmd.
const (
	commandBytes = 8 + 8 + 3 + cdbBytes
	answerBytes  = 4 + 4 + 2 + 1 + 1 + senseBytes
)

// request is one command from a request queue.
type request struct {
	chain    queue.Chain
	command  target.Request
	id       uint64
	known    bool          // the address belongs to target 0
	nth      uint64        // position among the lane's requests, see started
	room     queue.Buffers // for the response header, possibly in several pieces; its array is reused
	response atomic.Uint32 // set by task management: replaces the response code
	reply    target.Reply
}

// parse copies the request header out of the chain.
func (r *request) parse() error {
	var h [commandBytes]byte
	if n := r.chain.Readable.Read(h[:]); n < len(h) {
		return badChain("request", n, len(h))
	}
	r.room = r.chain.Writable.TakeInto(r.room[:0], answerBytes)
	if n := r.room.Len(); n < answerBytes {
		return badChain("response buffer", n, answerBytes)
	}
	r.command.LUN, r.known = logicalUnit([8]byte(h[:8]))
	r.id = binary.LittleEndian.Uint64(h[8:])
	r.command.CDB = [cdbBytes]byte(h[19:])
	r.command.Out, r.command.In = r.chain.Readable, r.chain.Writable
	r.command.Cancelled.Store(false)
	r.response.Store(responseOK)
	r.reply = target.Reply{}
	return nil
}

// logicalUnit parses the lun field (virtio 1.2 §5.6.6.1): one byte with the value 1, one with the
// target, two with the logical unit, and zeros. ok reports whether the address belongs to target 0.
func logicalUnit(p [8]byte) (lun uint16, ok bool) {
	if p[0] != 1 || p[1] != 0 || p[2] != 0 && p[2]&0xc0 != 0x40 || p[4]|p[5]|p[6]|p[7] != 0 {
		return 0, false
	}
	return binary.BigEndian.Uint16(p[2:]) & 0x3fff, true
}

// serve executes the command. It returns false if the command would have to wait for the host but
// the argument wait is false.
func (r *request) serve(t *target.Target, wait bool) (done bool) {
	if !r.known || wait && r.command.Cancelled.Load() {
		return true
	}
	r.reply, done = t.Serve(&r.command, wait)
	return done
}

// cancel makes the command stop early. The driver then gets the given response code.
func (r *request) cancel(response byte) {
	r.response.Store(uint32(response))
	r.command.Cancelled.Store(true)
}

// answer writes struct virtio_scsi_resp_cmd and returns the number of bytes written to the chain.
func (r *request) answer() (written uint32) {
	var p [answerBytes]byte
	left := max(r.command.Out.Len(), r.command.In.Len())
	filled := 0
	response := byte(r.response.Load())
	switch {
	case !r.known:
		response = responseBadTarget
	case response != responseOK:
	case r.reply.Overrun:
		response = responseOverrun
	case r.reply.Status != target.Good:
		p[10] = byte(r.reply.Status)
		binary.LittleEndian.PutUint32(p[0:], target.SenseBytes) // sense_len
		copy(p[12:], r.reply.Sense[:])
	case r.reply.Filled > 0:
		filled = r.reply.Filled
		left = r.command.In.Len() - filled
	case r.reply.Used > 0:
		left = r.command.Out.Len() - r.reply.Used
	}
	binary.LittleEndian.PutUint32(p[4:], uint32(left)) // residual
	p[11] = response
	room := r.room
	room.Write(p[:])
	return answerBytes + uint32(filled)
}
