"""Scrapy's own settings: those that make recording complete, and the parts of ours that it loads by name."""

BOT_NAME = "osint"
SPIDER_MODULES = ["spiders"]
NEWSPIDER_MODULE = "spiders"
TWISTED_REACTOR = "twisted.internet.asyncioreactor.AsyncioSelectorReactor"

DOWNLOAD_HANDLERS = {
    "http": "osint_pipeline.fetch.handler.RecordingHandler",
    "https": "osint_pipeline.fetch.handler.RecordingHandler",
    "ftp": None,
    "file": None,
    "s3": None,
    "data": None,
}
EXTENSIONS = {"osint_pipeline.crawl.RunExtension": 0}
ITEM_PIPELINES = {"osint_pipeline.crawl.ReadingPipeline": 0}

TELNETCONSOLE_ENABLED = False  # runs code in the crawler
REMOTE_CONTROL_ENABLED = False  # likewise, on by default in Scrapy 2.19
DOWNLOAD_VERIFY_CERTIFICATES = False  # a bad certificate is evidence too; it is recorded, not refused
COOKIES_ENABLED = True
HTTPCACHE_ENABLED = False
CONCURRENT_ITEMS = 4
REDIRECT_MAX_TIMES = 10
DOWNLOAD_FAIL_ON_DATALOSS = False
LOG_LEVEL = "WARNING"
