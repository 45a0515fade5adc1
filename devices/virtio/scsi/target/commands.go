package target

// commands is the table of all supported commands. The string usage is the CDB usage data for
// REPORT SUPPORTED OPERATION CODES: the opcode, then a mask of the bits that the target evaluates.
// The string is as long as the CDB.
var commands = [...]command{
	{"TEST UNIT READY", 0x00, -1, "\x00\x00\x00\x00\x00\x04", medium | sizing, func(*call) error { return nil }},
	{"REQUEST SENSE", 0x03, -1, "\x03\x01\x00\x00\xff\x04", always, (*call).requestSense},
	{"READ (6)", 0x08, -1, "\x08\x1f\xff\xff\xff\x04", medium, (*call).read},
	{"WRITE (6)", 0x0a, -1, "\x0a\x1f\xff\xff\xff\x04", medium | writes, (*call).write},
	{"INQUIRY", 0x12, -1, "\x12\x01\xff\xff\xff\x04", always, (*call).inquiry},
	{"MODE SELECT (6)", 0x15, -1, "\x15\x11\x00\x00\xff\x04", waiting, (*call).modeSelect},
	{"MODE SENSE (6)", 0x1a, -1, "\x1a\x08\xff\xff\xff\x04", 0, (*call).modeSense},
	{"START STOP UNIT", 0x1b, -1, "\x1b\x01\x00\x00\x01\x04", waiting, (*call).startStop},
	{"READ CAPACITY (10)", 0x25, -1, "\x25\x00\x00\x00\x00\x00\x00\x00\x00\x04", medium | sizing, (*call).readCapacity10},
	{"READ (10)", 0x28, -1, "\x28\x18\xff\xff\xff\xff\x00\xff\xff\x04", medium, (*call).read},
	{"WRITE (10)", 0x2a, -1, "\x2a\x18\xff\xff\xff\xff\x00\xff\xff\x04", medium | writes, (*call).write},
	{"VERIFY (10)", 0x2f, -1, "\x2f\x12\xff\xff\xff\xff\x00\xff\xff\x04", medium | waiting, (*call).verify},
	{"SYNCHRONIZE CACHE (10)", 0x35, -1, "\x35\x02\xff\xff\xff\xff\x00\xff\xff\x04", medium | waiting, (*call).sync},
	{"WRITE SAME (10)", 0x41, -1, "\x41\x08\xff\xff\xff\xff\x00\xff\xff\x04", medium | writes | waiting, (*call).writeSame},
	{"UNMAP", 0x42, -1, "\x42\x00\x00\x00\x00\x00\x00\xff\xff\x04", medium | writes | waiting | freeing, (*call).unmap},
	{"MODE SELECT (10)", 0x55, -1, "\x55\x11\x00\x00\x00\x00\x00\xff\xff\x04", waiting, (*call).modeSelect},
	{"MODE SENSE (10)", 0x5a, -1, "\x5a\x18\xff\xff\x00\x00\x00\xff\xff\x04", 0, (*call).modeSense},
	{"READ (16)", 0x88, -1, "\x88\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x04", medium, (*call).read},
	{"WRITE (16)", 0x8a, -1, "\x8a\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x04", medium | writes, (*call).write},
	{"VERIFY (16)", 0x8f, -1, "\x8f\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x04", medium | waiting, (*call).verify},
	{"SYNCHRONIZE CACHE (16)", 0x91, -1, "\x91\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x04", medium | waiting, (*call).sync},
	{"WRITE SAME (16)", 0x93, -1, "\x93\x09\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00\x04", medium | writes | waiting, (*call).writeSame},
	{"READ CAPACITY (16)", 0x9e, 0x10, "\x9e\x10\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x00\x04", medium | sizing, (*call).readCapacity16},
	{"REPORT LUNS", 0xa0, -1, "\xa0\x00\xff\x00\x00\x00\xff\xff\xff\xff\x00\x04", always, (*call).reportLUNs},
	{"REPORT SUPPORTED OPERATION CODES", 0xa3, 0x0c, "\xa3\x0c\x87\xff\xff\xff\xff\xff\xff\xff\x00\x04", 0, (*call).reportOpcodes},
	{"REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", 0xa3, 0x0d, "\xa3\x0d\x80\x00\x00\x00\xff\xff\xff\xff\x00\x04", 0, (*call).reportManagement},
	{"READ (12)", 0xa8, -1, "\xa8\x18\xff\xff\xff\xff\xff\xff\xff\xff\x00\x04", medium, (*call).read},
	{"WRITE (12)", 0xaa, -1, "\xaa\x18\xff\xff\xff\xff\xff\xff\xff\xff\x00\x04", medium | writes, (*call).write},
}
