package scsi

import (
	"context"
	"encoding/binary"

	"minivmm/devices/virtio/queue"
)

// Types and sizes of control requests (virtio 1.2 §5.6.6.2, VIRTIO_SCSI_T_*).
const (
	tmfBytes   = 4 + 4 + 8 + 8 // sizeof(struct virtio_scsi_ctrl_tmf)
	asyncBytes = 4 + 8 + 4     // sizeof(struct virtio_scsi_ctrl_an)

	typeTMF             = 0
	typeAsyncQuery      = 1
	typeAsyncSubscribe  = 2
	tmfAbortTask        = 0
	tmfAbortTaskSet     = 1
	tmfClearTaskSet     = 3
	tmfITNexusReset     = 4
	tmfLogicalUnitReset = 5
	tmfQueryTask        = 6
	tmfQueryTaskSet     = 7
)

func (a *activation) serveControl(ctx context.Context, q *queue.Queue) error {
	return q.Serve(ctx, func(c *queue.Chain) (uint32, error) { return a.control(ctx, c) })
}

// control answers one control request. A task management function completes only after the commands
// that it affects have completed, so that none of these commands writes anything after the
// function's answer.
func (a *activation) control(ctx context.Context, c *queue.Chain) (written uint32, err error) {
	var h [tmfBytes]byte
	n := c.Readable.Read(h[:])
	if n < 4 {
		return 0, badChain("control request", n, 4)
	}
	le := binary.LittleEndian
	var answer []byte
	switch kind := le.Uint32(h[0:]); {
	case kind == typeTMF && n == tmfBytes:
		answer = []byte{a.manage(le.Uint32(h[4:]), [8]byte(h[8:16]), le.Uint64(h[16:]))}
		if err := ctx.Err(); err != nil { // the activation has ended, so abort may not have waited
			return 0, err
		}
	case (kind == typeAsyncQuery || kind == typeAsyncSubscribe) && n >= asyncBytes:
		response := byte(responseOK)
		if lun, ok := logicalUnit([8]byte(h[4:12])); !ok || int(lun) >= a.target.Units() {
			response = responseBadTarget
		}
		answer = []byte{0, 0, 0, 0, response} // the device never sends an asynchronous notification event
	default:
		answer = []byte{responseFunctionRejected}
	}
	if room := c.Writable.Len(); room < len(answer) {
		return 0, badChain("response buffer", room, len(answer))
	}
	return uint32(c.Writable.Write(answer)), nil
}

// manage executes a task management function and returns the response.
func (a *activation) manage(function uint32, address [8]byte, id uint64) byte {
	lun, ok := logicalUnit(address)
	if !ok {
		return responseBadTarget
	}
	unit := func(r *request) bool { return r.known && r.command.LUN == lun }
	task := func(r *request) bool { return unit(r) && r.id == id }
	if function == tmfITNexusReset {
		a.abort(func(r *request) bool { return r.known }, responseReset)
		a.target.ResetNexus()
		return responseOK
	}
	if int(lun) >= a.target.Units() {
		return responseIncorrectLUN
	}
	switch function {
	case tmfAbortTask:
		a.abort(task, responseAborted)
	case tmfAbortTaskSet, tmfClearTaskSet:
		a.abort(unit, responseAborted)
	case tmfLogicalUnitReset:
		a.abort(unit, responseReset)
		a.target.ResetUnit(lun)
	case tmfQueryTask, tmfQueryTaskSet:
		match := unit
		if function == tmfQueryTask {
			match = task
		}
		for _, l := range a.lanes {
			if l.has(match) {
				return responseFunctionSucceeded
			}
		}
	default:
		return responseFunctionRejected
	}
	return responseOK
}

// abort cancels the matching commands in all queues and waits until they have completed or the
// activation ends.
func (a *activation) abort(match func(*request) bool, response byte) {
	var waits []func()
	for _, l := range a.lanes {
		waits = append(waits, l.cancel(match, response))
	}
	for _, wait := range waits {
		wait()
	}
}
