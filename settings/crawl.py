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
ADDONS = {"osint_pipeline.crawl.OsintAddon": 0}
EXTENSIONS = {
    "osint_pipeline.crawl.RunExtension": 0,
    "scrapy.extensions.remote_control.RemoteControl": None,  # as it is disabled, its web server need not be loaded: 0.1 s
    "scrapy.extensions.telnet.TelnetConsole": None,
    "scrapy.extensions.corestats.CoreStats": None,
    "scrapy.extensions.logstats.LogStats": None,
    "scrapy.extensions.logcount.LogCount": None,
}
DOWNLOADER_MIDDLEWARES = {
    "osint_pipeline.crawl.CaptureMiddleware": 1,
    "scrapy.downloadermiddlewares.robotstxt.RobotsTxtMiddleware": None,
    "osint_pipeline.robots.KeptRobots": 100,
    "scrapy.downloadermiddlewares.retry.RetryMiddleware": None,
    "osint_pipeline.polite.PoliteRetry": 550,
    "scrapy.downloadermiddlewares.httpproxy.HttpProxyMiddleware": None,
    "osint_pipeline.egress.NamedProxy": 750,
    # the run counts for itself, and no spider names domains or a login: these would only take time
    "scrapy.downloadermiddlewares.stats.DownloaderStats": None,
    "scrapy.downloadermiddlewares.offsite.OffsiteMiddleware": None,
    "scrapy.downloadermiddlewares.httpauth.HttpAuthMiddleware": None,
}
SPIDER_MIDDLEWARES = {
    "scrapy.spidermiddlewares.httperror.HttpErrorMiddleware": None,  # refusals are read too
    "scrapy.spidermiddlewares.urllength.UrlLengthMiddleware": None,  # a long address is asked for as it is
    "scrapy.spidermiddlewares.depth.DepthMiddleware": None,
    "scrapy.spidermiddlewares.metacopy.MetaCopyDetectionMiddleware": None,  # looks through each request for a slip in code
}
ITEM_PIPELINES = {"osint_pipeline.crawl.ReadingPipeline": 0}

TELNETCONSOLE_ENABLED = False  # runs code in the crawler
REMOTE_CONTROL_ENABLED = False  # likewise, on by default in Scrapy 2.19
DOWNLOAD_VERIFY_CERTIFICATES = False  # a bad certificate is evidence too; it is recorded, not refused
COOKIES_ENABLED = True
METAREFRESH_ENABLED = False  # a refresh is what the page says, not what the server did
HTTPCACHE_ENABLED = False
CONCURRENT_ITEMS = 4
WARN_ON_GENERATOR_RETURN_VALUE = False  # reads a spider's source again for nearly every answer: 7 % of a crawl
REDIRECT_MAX_TIMES = 10
DOWNLOAD_FAIL_ON_DATALOSS = False
LOG_LEVEL = "WARNING"
