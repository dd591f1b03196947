/*
 * notify.c
 *	  NOTIFY that never makes a transaction fail. A notification is only a hint, because its
 *	  listeners also look for themselves. So we leave one out, with a warning, if it is too long
 *	  or if the queue is filling up: once the queue is full, the commit of every notifying
 *	  transaction fails.
 */
#include "compat.h"

#include "commands/async.h"
#include "utils/fmgrprotos.h"

#include "base/notify.h"

/* Add nothing optional if more than this part of the queue is full. */
#define FULLEST_QUEUE 0.5

/*
 * Does the notification queue have room for something optional? If not, this raises a WARNING, so
 * call it once per batch of notifications.
 */
bool
notify_possible(void)
{
	double usage = DatumGetFloat8(DirectFunctionCall1(pg_notification_queue_usage, (Datum) 0));

	if (usage <= FULLEST_QUEUE)
		return true;
	ereport(WARNING, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					  errmsg("skipping notifications because the notification queue is %.0f%% full",
							 usage * 100),
					  errhint("Look for sessions that listen and stay in a transaction.")));
	return false;
}

/*
 * Send a notification when the current (sub)transaction commits. Returns false, with a WARNING,
 * if the payload is too long.
 */
bool
notify_send(const char *channel, const char *payload)
{
	size_t length = strlen(payload);

	if (length > NOTIFY_LONGEST_PAYLOAD)
	{
		ereport(WARNING, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
						  errmsg("skipping notification on channel \"%s\" because its payload of "
								 "%zu bytes exceeds %d bytes",
								 channel, length, NOTIFY_LONGEST_PAYLOAD)));
		return false;
	}
	Async_Notify(channel, payload);
	return true;
}
