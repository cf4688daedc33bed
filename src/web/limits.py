"""What is taken, at most; the sentences of the errors name these figures. No imports: read before OpenCV is loaded."""

PICTURE_BYTES, PICTURE_PIXELS = 20 * 2**20, 2**26
VIDEO_BYTES, VIDEO_SECONDS = 200 * 2**20, 300
FRAME_BYTES, FRAME_PIXELS = 2**20, 1920 * 1088  # of a live frame; bytes with its time stamp
PICTURE_UPLOAD_S, VIDEO_UPLOAD_S = 60.0, 600.0  # for a whole upload
PACE_BYTES, PACE_S = 10**6, 20.0  # so much of an upload in such a time, at least
DRAINED_BYTES = 2**30  # of a body that is too large: read so far, so that its sender hears the answer
PICTURES_AT_ONCE, PICTURES_TAKEN_IN = 1, 16  # recognized; recognized or sent
FIRST_MESSAGE_S, IDLE_S, SLOW_READER_S = 10.0, 60.0, 10.0  # of a socket
MOST_WITHOUT_A_PLACE = 32  # sockets that have not yet said what they want
CONNECTIONS = 200
